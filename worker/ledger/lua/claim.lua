-- Claim what is due by the server's clock. A claim hides the entries from other claimers for a while; it
-- changes no record, so a claimer that dies costs nothing but that while.
--
-- KEYS[1] index: member -> due time in ms   KEYS[2] hash of the gate
-- KEYS[3] index of the retry calls under way
-- ARGV[1] how many at most                  ARGV[2] ms to hide them
-- ARGV[3] ms of a retry call's lease, to claim no more than an opening gate has places for; 0 = for a look
-- Returns {server time in ms, what the gate says, due but not claimed, ms until the next is due (-1 = not known),
-- member, …}.

local limit = tonumber(ARGV[1])
local says, places = gate_says(KEYS[2])
if ARGV[3] ~= '0' then
  says, places = gate_for_retry(KEYS[2], KEYS[3], tonumber(ARGV[3]))
  if says == 'opening' then limit = math.min(limit, places) end
end
if says ~= 'open' and says ~= 'opening' then return {now, says, 0, -1} end
if tonumber(ARGV[4]) > 0 then
  limit = math.min(limit, math.floor(tokens_in(KEYS[4], tonumber(ARGV[4]), tonumber(ARGV[5]))))
  if limit < 1 then return {now, says, 0, -1} end
end

local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, limit)
local answer = {now, says, 0, -1}
for i = 1, #due do
  redis.call('ZADD', KEYS[1], now + ARGV[2], due[i])
  answer[i + 4] = due[i]
end
if #due == limit then
  answer[3] = redis.call('ZCOUNT', KEYS[1], '-inf', now)
else
  local later = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if later[2] then answer[4] = math.ceil(tonumber(later[2])) - now end
end
return answer
