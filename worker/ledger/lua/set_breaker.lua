-- Store a breaker unless someone else has changed it meanwhile, and say so in the stream.
--
-- KEYS[1] hash of breakers   KEYS[2] stream of events   KEYS[3] hash of counters
-- ARGV[1] workflow           ARGV[2] version expected; 0 = there must be none
-- ARGV[3] the new breaker, JSON with `version`          ARGV[4] longest stream kept
-- ARGV[5] event name         ARGV[6] event data (JSON)
-- Returns {server time in ms, 1 when it is stored now, 0 when someone else was first}.
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored == ARGV[3] then return {now, 1} end
if (stored and cjson.decode(stored).version or 0) ~= tonumber(ARGV[2]) then return {now, 0} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'event', ARGV[5], 'root', '', 'data', ARGV[6])
redis.call('HINCRBY', KEYS[3], ARGV[5], 1)
return {now, 1}
