-- Close the gate for every worker: suspend until a probe succeeds, or pause until a time. A pause never
-- shortens another, and after it the gate opens by steps.
--
-- KEYS[1] hash of the gate
-- ARGV[1] "suspend" | "pause"   ARGV[2] reason   ARGV[3] detail
-- ARGV[4] ms: of the pause, or the shortest until the first probe   ARGV[5] ms: longest until a probe
-- Returns {server time in ms, 1 when this call closed it, 0 when it was closed already}.
local says = gate_says(KEYS[1])
if ARGV[1] == 'suspend' then
  if says == 'suspended' then return {now, 0} end
  close_until_probed(KEYS[1], 'suspended', ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]))
  return {now, 1}
end
local till = redis.call('HGET', KEYS[1], 'until')
if not till or tonumber(till) < now + ARGV[4] then
  redis.call('HSET', KEYS[1], 'until', now + ARGV[4], 'pause_reason', ARGV[2])
  redis.call('HSET', KEYS[1], 'opening_since', now + ARGV[4], 'answered', 0)
end
return {now, (says == 'open' or says == 'opening') and 1 or 0}
