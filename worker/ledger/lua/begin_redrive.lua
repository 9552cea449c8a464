-- Begin a redrive whose items are in place. They have a time to live until then, so that a person who was
-- interrupted while they were written leaves nothing behind.
--
-- KEYS[1] hash of the redrive     KEYS[2] index of its pending items
-- KEYS[3] index of redrives       KEYS[4] index of those that are open
-- KEYS[5] stream of events        KEYS[6] hash of counters
-- ARGV[1] its id   ARGV[2] its plan, JSON   ARGV[3] where it stands, JSON
-- ARGV[4] event name   ARGV[5] event data (JSON)
-- Returns {server time in ms, 1 when it is begun (also by this very call before), 0 when its items are gone}.
local known = redis.call('HGET', KEYS[1], 'plan')
if known then return {now, known == ARGV[2] and 1 or 0} end
if redis.call('EXISTS', KEYS[2]) == 0 then return {now, 0} end
redis.call('PERSIST', KEYS[2])
redis.call('HSET', KEYS[1], 'plan', ARGV[2], 'standing', ARGV[3])
redis.call('ZADD', KEYS[3], now, ARGV[1])
redis.call('ZADD', KEYS[4], now, ARGV[1])
-- Not trimmed here: the next commit does.
redis.call('XADD', KEYS[5], '*', 'event', ARGV[4], 'root', '', 'data', ARGV[5])
redis.call('HINCRBY', KEYS[6], ARGV[4], 1)
return {now, 1}
