-- Claim the right to probe an API behind a closed gate: one worker at a time, with growing pauses.
--
-- KEYS[1] hash of the gate   ARGV[1] ms: longest pause
-- Returns {server time in ms, 1 when the caller may probe now, else 0}.
local gate = redis.call('HMGET', KEYS[1], 'kind', 'probe_at', 'pause', 'until')
if not gate[1] or math.max(tonumber(gate[2] or 0), tonumber(gate[4] or 0)) > now then return {now, 0} end
local pause = math.min(tonumber(gate[3]) * 2, tonumber(ARGV[1]))
redis.call('HSET', KEYS[1], 'probe_at', now + pause, 'pause', pause)
return {now, 1}
