-- Stay the owner of a job that is under way, unless the gate was closed meanwhile.
--
-- KEYS[1] hash of this job   KEYS[2] hash of the gate
-- ARGV[1] token              ARGV[2] ms until the job is taken for dead
-- ARGV[3] "1" = stop when the gate is closed
-- Returns {server time in ms, 1 when the job may go on, else 0}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return {now, 0} end
if ARGV[3] == '1' then
  local gate = redis.call('HMGET', KEYS[2], 'suspended', 'until')
  if gate[1] or (gate[2] and tonumber(gate[2]) > now) then return {now, 0} end
end
redis.call('HSET', KEYS[1], 'until', now + ARGV[2])
return {now, 1}
