-- Add to the counts of calls to the API; each report once, however often it is sent.
--
-- KEYS[1] hash of counts   KEYS[2] index of reports that were taken in lately: token -> when, in ms
-- ARGV[1] token of this report   ARGV[2..] field, how many more, repeated
-- Returns {server time in ms, 1 when it was added, 0 when it had been before}.
local REMEMBER_MS = 120000

redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - REMEMBER_MS)
if redis.call('ZADD', KEYS[2], 'NX', now, ARGV[1]) == 0 then return {now, 0} end
for i = 2, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end
return {now, 1}
