-- Claim the right to probe a suspended API: one worker at a time, with growing pauses that a fresh
-- suspension inherits, so that a key which may read but not retry does not hammer the API.
--
-- KEYS[1] hash of the gate   ARGV[1] ms: shortest pause   ARGV[2] ms: longest pause
-- Returns {server time in ms, 1 when the caller may probe now, else 0}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local gate = redis.call('HMGET', KEYS[1], 'suspended', 'probe_at', 'probes')
if not gate[1] or tonumber(gate[2] or 0) > now then return {now, 0} end
local probes = tonumber(gate[3] or 0)
local pause = math.min(ARGV[1] * 2 ^ math.min(probes, 30), tonumber(ARGV[2]))
redis.call('HSET', KEYS[1], 'probe_at', now + math.floor(pause), 'probes', probes + 1)
return {now, 1}
