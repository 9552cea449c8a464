-- End a suspension after a probe succeeded. A pause that is under way stays.
--
-- KEYS[1] hash of the gate
-- Returns {server time in ms, 1 when it was suspended, else 0, since (ms) or 0}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local since = redis.call('HGET', KEYS[1], 'since')
local was = redis.call('HDEL', KEYS[1], 'suspended', 'detail', 'since', 'probe_at')
redis.call('HSET', KEYS[1], 'opened_at', now)
return {now, was > 0 and 1 or 0, tonumber(since or 0)}
