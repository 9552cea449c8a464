-- Take a halt off the gate that has run out by itself, and say so in the stream; once, whoever sees it first.
--
-- KEYS[1] hash of the gate   KEYS[2] stream of events   KEYS[3] hash of counters
-- ARGV[1] the halt expected, JSON as it is stored
-- ARGV[2] event name         ARGV[3] event data (JSON)
-- Returns {server time in ms, 1 when this call took it off, else 0}.
local halt = redis.call('HMGET', KEYS[1], 'halt', 'halt_until')
if halt[1] ~= ARGV[1] or not halt[2] or tonumber(halt[2]) > now then return {now, 0} end
redis.call('HDEL', KEYS[1], 'halt', 'halt_until')
redis.call('XADD', KEYS[2], '*', 'event', ARGV[2], 'root', '', 'data', ARGV[3])
redis.call('HINCRBY', KEYS[3], ARGV[2], 1)
return {now, 1}
