-- Read the members of indexes that come after one of them each, in order of their score and then of their name.
-- One step, so that members which come or go meanwhile shift nothing. Changes nothing.
--
-- KEYS[1..] the indexes
-- ARGV[1] "newest" = from the highest score down, else from the lowest up
-- ARGV[2] lowest score, or "-inf"   ARGV[3] score that all are below, or "+inf"
-- ARGV[4..] of each index: how many members at most, score and name of the one they come after ("" for the beginning)
-- Returns {server time in ms, {member, score, member, score, ...} of each index}.

-- By bytes, as the server orders members: Lua's own `<` goes by the locale of whoever started the server.
local function is_less(one, other)
  for i = 1, math.min(#one, #other) do
    local a, b = one:byte(i), other:byte(i)
    if a ~= b then return a < b end
  end
  return #one < #other
end

-- Return how many members have a lower score.
local function below(key, score)
  if score == '-inf' then return 0 end
  if score == '+inf' then return redis.call('ZCARD', key) end
  return redis.call('ZCOUNT', key, '-inf', '(' .. score)
end

-- Return the first rank from `low` to `high` whose member is not less than the name; `high` when there is none.
local function rank_of(key, name, low, high)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if is_less(redis.call('ZRANGE', key, middle, middle)[1], name) then low = middle + 1 else high = middle end
  end
  return low
end

-- Return the lowest and the highest rank of what comes after a member.
local function ranks_after(key, newest, low, high, score, name)
  local rank = rank_of(key, name, below(key, score), redis.call('ZCOUNT', key, '-inf', score))
  if newest then return low, math.min(high, rank - 1) end
  local there = redis.call('ZRANGE', key, rank, rank, 'WITHSCORES')
  local is_it = there[1] == name and tonumber(there[2]) == tonumber(score)
  return math.max(low, is_it and rank + 1 or rank), high
end

local newest, found = ARGV[1] == 'newest', {now}
for i, key in ipairs(KEYS) do
  local count, score, name = tonumber(ARGV[3 * i + 1]), ARGV[3 * i + 2], ARGV[3 * i + 3]
  local low, high = below(key, ARGV[2]), below(key, ARGV[3]) - 1
  if score ~= '' then low, high = ranks_after(key, newest, low, high, score, name) end
  local members = {}
  if high >= low and newest then
    local ascending = redis.call('ZRANGE', key, math.max(low, high - count + 1), high, 'WITHSCORES')
    for j = #ascending - 1, 1, -2 do
      members[#members + 1] = ascending[j]
      members[#members + 1] = ascending[j + 1]
    end
  elseif high >= low then
    members = redis.call('ZRANGE', key, low, math.min(high, low + count - 1), 'WITHSCORES')
  end
  found[i + 1] = members
end
return found
