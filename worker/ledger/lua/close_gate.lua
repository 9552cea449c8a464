-- Close the gate for every worker: suspend until a probe succeeds, or pause until a time. A pause never
-- shortens another.
--
-- KEYS[1] hash of the gate
-- ARGV[1] "suspend" | "pause"   ARGV[2] reason   ARGV[3] detail
-- ARGV[4] ms: of the pause, or until the first probe of a suspension
-- A key that may read but not retry is suspended again after each probe: the first pause doubles each time,
-- up to five minutes, and starts small again when the last suspension ended over ten minutes ago.
-- Returns {server time in ms, 1 when this call closed it, 0 when it was closed already}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local gate = redis.call('HMGET', KEYS[1], 'suspended', 'until')

if ARGV[1] == 'suspend' then
  if gate[1] then return {now, 0} end
  local opened = redis.call('HGET', KEYS[1], 'opened_at')
  if opened and now - tonumber(opened) > 600000 then redis.call('HDEL', KEYS[1], 'probes') end
  local probes = tonumber(redis.call('HGET', KEYS[1], 'probes') or 0)
  local first = math.min(ARGV[4] * 2 ^ math.min(probes, 30), math.max(tonumber(ARGV[4]), 300000))
  redis.call('HSET', KEYS[1], 'suspended', ARGV[2], 'detail', ARGV[3], 'since', now)
  redis.call('HSET', KEYS[1], 'probe_at', now + math.floor(first))
  return {now, 1}
end
local was_open = not gate[1] and not (gate[2] and tonumber(gate[2]) > now)
if not gate[2] or tonumber(gate[2]) < now + ARGV[4] then
  redis.call('HSET', KEYS[1], 'until', now + ARGV[4], 'pause_reason', ARGV[2])
end
return {now, was_open and 1 or 0}
