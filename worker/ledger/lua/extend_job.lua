-- Stay the owner of a job that is under way, unless the gate was closed meanwhile.
--
-- KEYS[1] hash of this job   KEYS[2] hash of the gate
-- ARGV[1] token              ARGV[2] ms until the job is taken for dead
-- ARGV[3] "1" = stop when the gate is closed
-- Returns {server time in ms, 1 when the job may go on, else 0}.
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return {now, 0} end
if ARGV[3] == '1' then
  local says = gate_says(KEYS[2])
  if says ~= 'open' and says ~= 'opening' then return {now, 0} end
end
redis.call('HSET', KEYS[1], 'until', now + ARGV[2])
return {now, 1}
