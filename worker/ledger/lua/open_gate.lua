-- Open the gate by steps after a probe succeeded. A pause that is under way stays, and comes first.
--
-- KEYS[1] hash of the gate
-- Returns {server time in ms, what it was ("suspended", "down" or "open"), since (ms) or 0}.
local gate = redis.call('HMGET', KEYS[1], 'kind', 'since', 'until')
if not gate[1] then return {now, 'open', 0} end
redis.call('HDEL', KEYS[1], 'kind', 'reason', 'detail', 'since', 'probe_at', 'pause')
local from = math.max(now, tonumber(gate[3] or 0))
redis.call('HSET', KEYS[1], 'opened_at', now, 'opening_since', from, 'answered', 0)
redis.call('HSET', KEYS[1], 'heard_at', now, 'failing', 0, 'retry_heard_at', now, 'retry_failing', 0)
return {now, gate[1], tonumber(gate[2] or 0)}
