-- Let a redrive stand elsewhere (paused, stopped, …) and say so, unless it moved on meanwhile.
--
-- KEYS[1] hash of the redrive     KEYS[2] index of its pending items
-- KEYS[3] index of open redrives
-- KEYS[4] stream of events        KEYS[5] hash of counters
-- ARGV[1] its id   ARGV[2] version expected   ARGV[3] where it stands now, JSON
-- ARGV[4] "1" = what is pending will never go: forget it
-- ARGV[5] event name   ARGV[6] event data (JSON)
-- Returns {server time in ms, 1 when it stands there (also by this very call before), 0 when it moved on}.
local standing = redis.call('HGET', KEYS[1], 'standing')
if standing == ARGV[3] then return {now, 1} end
if not standing or cjson.decode(standing).version ~= tonumber(ARGV[2]) then return {now, 0} end
redis.call('HSET', KEYS[1], 'standing', ARGV[3])
if ARGV[4] == '1' then
  redis.call('HSET', KEYS[1], 'dropped', redis.call('ZCARD', KEYS[2]))
  redis.call('UNLINK', KEYS[2])
end
-- Workers close it once they have read this, and everything that was released has its outcome.
redis.call('ZADD', KEYS[3], now, ARGV[1])
redis.call('XADD', KEYS[4], '*', 'event', ARGV[5], 'root', '', 'data', ARGV[6])
redis.call('HINCRBY', KEYS[5], ARGV[5], 1)
return {now, 1}
