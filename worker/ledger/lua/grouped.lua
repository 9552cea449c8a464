-- Note that every lineage is in its group, and count what has ended by its state once more: what an older worker put
-- into a group was not counted that way.
--
-- KEYS[1] hash: group, or final state -> lineages in it   KEYS[2] hash of facts about this ledger
-- ARGV[1] format of today
-- Returns the server's time in ms.
local ended = {}
local counts = redis.call('HGETALL', KEYS[1])
for i = 1, #counts, 2 do
  local state = state_of(counts[i])
  if ENDED[state] and counts[i] ~= state then ended[state] = (ended[state] or 0) + counts[i + 1] end
end
for state in pairs(ENDED) do
  if ended[state] then redis.call('HSET', KEYS[1], state, ended[state]) else redis.call('HDEL', KEYS[1], state) end
end
redis.call('HSET', KEYS[2], 'grouped', ARGV[1])
return now
