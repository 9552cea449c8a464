-- Claim the right to probe an API behind a closed gate: one worker at a time, with growing pauses.
--
-- KEYS[1] hash of the gate   ARGV[1] ms: shortest pause   ARGV[2] ms: longest pause
-- Returns {server time in ms, 1 when the caller may probe now, else 0}.
local gate = redis.call('HMGET', KEYS[1], 'kind', 'probe_at', 'probes', 'until')
if not gate[1] or math.max(tonumber(gate[2] or 0), tonumber(gate[4] or 0)) > now then return {now, 0} end
local probes = tonumber(gate[3] or 0)
local pause = math.min(ARGV[1] * 2 ^ math.min(probes, 30), tonumber(ARGV[2]))
redis.call('HSET', KEYS[1], 'probe_at', now + math.floor(pause), 'probes', probes + 1)
return {now, 1}
