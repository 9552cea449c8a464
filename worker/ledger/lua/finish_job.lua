-- Finish a job and leave what its next run should remember. A worker that lost the job meanwhile changes
-- nothing.
--
-- KEYS[1] hash of this job   ARGV[1] token   ARGV[2] memory (JSON), or "" to leave it as it is
-- Returns {server time in ms, 1 when it was ours, else 0}.
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return {now, 0} end
redis.call('HDEL', KEYS[1], 'owner', 'until')
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'memory', ARGV[2]) end
return {now, 1}
