-- Take a redrive off the index of open ones: it is over, everything that was released has its outcome, and
-- nobody resumed it meanwhile.
--
-- KEYS[1] hash of the redrive     KEYS[2] hash of its items without an outcome
-- KEYS[3] index of open redrives
-- ARGV[1] its id   ARGV[2] version expected of where it stands
-- Returns {server time in ms, 1 when it is closed, else 0}.
local standing = redis.call('HGET', KEYS[1], 'standing')
if standing and cjson.decode(standing).version ~= tonumber(ARGV[2]) then return {now, 0} end
if standing and redis.call('HLEN', KEYS[2]) > 0 then return {now, 0} end
redis.call('ZREM', KEYS[3], ARGV[1])
return {now, 1}
