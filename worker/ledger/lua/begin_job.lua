-- Begin a job that only one worker may do at a time, unless it is under way, was begun a moment ago (a
-- second beat), or the gate is closed.
--
-- KEYS[1] hash of this job   KEYS[2] hash of the gate
-- ARGV[1] token              ARGV[2] ms until the job is taken for dead
-- ARGV[3] ms that must have passed since it was begun last
-- ARGV[4] "1" = not while the gate is closed
-- Returns {server time in ms, "begun" | "busy" | "early" | what a closed gate says, memory (JSON or "")}.
local job = redis.call('HMGET', KEYS[1], 'owner', 'until', 'begun_at', 'memory')

if job[1] ~= ARGV[1] then
  if ARGV[4] == '1' then
    local says = gate_says(KEYS[2])
    if says ~= 'open' and says ~= 'opening' then return {now, says, ''} end
  end
  -- What lies farther ahead than it can was written before the server's clock was put back.
  local till, begun_at = tonumber(job[2] or 0), tonumber(job[3] or 0)
  if job[1] and till > now and till <= now + ARGV[2] then return {now, 'busy', ''} end
  if begun_at <= now and begun_at + ARGV[3] > now then return {now, 'early', ''} end
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'until', now + ARGV[2], 'begun_at', now)
end
return {now, 'begun', job[4] or ''}
