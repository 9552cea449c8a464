-- Stay the owner of a job that is under way.
--
-- KEYS[1] hash of this job   ARGV[1] token   ARGV[2] ms until the job is taken for dead
-- Returns {server time in ms, 1 while still the owner, else 0}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return {now, 0} end
redis.call('HSET', KEYS[1], 'until', now + ARGV[2])
return {now, 1}
