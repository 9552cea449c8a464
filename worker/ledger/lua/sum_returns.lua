-- Add up what was counted in several hours: a day of them holds tens of thousands of counters, and few travel.
-- Changes nothing.
--
-- KEYS[1..] hashes of what became of clones in an hour
-- Returns {server time in ms, field, sum, field, sum, ...}.
local sums = {}
for _, key in ipairs(KEYS) do
  local counts = redis.call('HGETALL', key)
  for i = 1, #counts, 2 do sums[counts[i]] = (sums[counts[i]] or 0) + tonumber(counts[i + 1]) end
end
local found = {now}
for field, sum in pairs(sums) do
  found[#found + 1] = field
  found[#found + 1] = sum
end
return found
