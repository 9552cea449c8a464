-- Read the members of an index that come after one of them, in order of their score and then of their name.
-- One step, so that members which come or go meanwhile shift nothing. Changes nothing.
--
-- KEYS[1] the index
-- ARGV[1] "newest" = from the highest score down, else from the lowest up   ARGV[2] how many at most
-- ARGV[3] lowest score, or "-inf"   ARGV[4] score that all are below, or "+inf"
-- ARGV[5], ARGV[6] score and name of the one they come after; "" for the beginning
-- Returns {server time in ms, member, score, member, score, ...}.

-- By bytes, as the server orders members: Lua's own `<` goes by the locale of whoever started the server.
local function is_less(one, other)
  for i = 1, math.min(#one, #other) do
    local a, b = one:byte(i), other:byte(i)
    if a ~= b then return a < b end
  end
  return #one < #other
end

-- Return how many members have a lower score.
local function below(score)
  if score == '+inf' then return redis.call('ZCARD', KEYS[1]) end
  return redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. score)
end

-- Return the first rank from `low` to `high` whose member is not less than the name; `high` when there is none.
local function rank_of(name, low, high)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if is_less(redis.call('ZRANGE', KEYS[1], middle, middle)[1], name) then low = middle + 1 else high = middle end
  end
  return low
end

local newest, count = ARGV[1] == 'newest', tonumber(ARGV[2])
local low = ARGV[3] == '-inf' and 0 or below(ARGV[3])
local high = below(ARGV[4]) - 1
if ARGV[5] ~= '' then
  local rank = rank_of(ARGV[6], below(ARGV[5]), redis.call('ZCOUNT', KEYS[1], '-inf', ARGV[5]))
  local there = redis.call('ZRANGE', KEYS[1], rank, rank, 'WITHSCORES')
  local is_it = there[1] == ARGV[6] and tonumber(there[2]) == tonumber(ARGV[5])
  if newest then high = math.min(high, rank - 1) else low = math.max(low, is_it and rank + 1 or rank) end
end
if count < 1 or high < low then return {now} end
local found = {now}
if newest then
  local members = redis.call('ZRANGE', KEYS[1], math.max(low, high - count + 1), high, 'WITHSCORES')
  for i = #members - 1, 1, -2 do
    found[#found + 1] = members[i]
    found[#found + 1] = members[i + 1]
  end
else
  for _, each in ipairs(redis.call('ZRANGE', KEYS[1], low, math.min(high, low + count - 1), 'WITHSCORES')) do
    found[#found + 1] = each
  end
end
return found
