-- Tell which executions belong to no lineage, and whether the job that asks may go on. Writes nothing.
--
-- KEYS[1] hash of this job      KEYS[2] hash of the gate
-- KEYS[3] hash: clone -> root   KEYS[4] set of executions without dates that were dealt with
-- KEYS[5..] the record that each execution would have as a root
-- ARGV[1] token of the job      ARGV[2] "1" = stop when the gate is closed
-- ARGV[3..] the executions, each once, in the order of the records
-- Returns {server time in ms, 1 when the job may go on, else 0, places of the strangers in the list, from 0}.
local goes_on = redis.call('HGET', KEYS[1], 'owner') == ARGV[1] and 1 or 0
if ARGV[2] == '1' then
  local says = gate_says(KEYS[2])
  if says ~= 'open' and says ~= 'opening' then goes_on = 0 end
end
if #ARGV < 3 then return {now, goes_on, {}} end

local roots = redis.call('HMGET', KEYS[3], unpack(ARGV, 3))
local places, records = {}, {}
for i, root in ipairs(roots) do
  if not root then
    places[#places + 1] = i
    records[#records + 1] = KEYS[i + 4]
  end
end
-- Almost always all of them are known: then the server counts them in one step.
local strangers = {}
if #records > 0 and redis.call('EXISTS', unpack(records)) < #records then
  for _, i in ipairs(places) do
    if redis.call('EXISTS', KEYS[i + 4]) == 0 and redis.call('SISMEMBER', KEYS[4], ARGV[i + 2]) == 0 then
      strangers[#strangers + 1] = i - 1
    end
  end
end
return {now, goes_on, strangers}
