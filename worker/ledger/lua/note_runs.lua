-- Take in runs of one workflow that completed, each once.
--
-- KEYS[1] index of the workflow's runs that ended
-- KEYS[2] hash of five minutes -> runs that ended, of the workflow; KEYS[3] of all
-- KEYS[4] index of completed runs that were counted
-- ARGV[1] letter of such a run   ARGV[2] ms: runs that ended longer ago are not taken in
-- ARGV[3..] uuid, when it ended (ms), repeated
-- Returns {server time in ms, how many were new}.
local new = 0
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now - ARGV[2])
for i = 3, #ARGV, 2 do
  local uuid, ended_at = ARGV[i], tonumber(ARGV[i + 1])
  if ended_at >= now - ARGV[2] and redis.call('ZADD', KEYS[4], 'NX', ended_at, uuid) == 1 then
    note_run(KEYS[1], KEYS[2], KEYS[3], ARGV[1] .. uuid, ended_at)
    new = new + 1
  end
end
return {now, new}
