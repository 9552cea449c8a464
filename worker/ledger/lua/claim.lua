-- Claim what is due by the server's clock. A claim hides the entries from other claimers for a while; it
-- changes no record, so a claimer that dies costs nothing but that while.
--
-- KEYS[1] index: member -> due time in ms   KEYS[2] hash of the gate
-- ARGV[1] how many at most                  ARGV[2] ms to hide them
-- ARGV[3] "1" = nothing while the gate is closed
-- Returns {server time in ms, "open" | "suspended" | "paused", due but not claimed, member, …}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if ARGV[3] == '1' then
  local gate = redis.call('HMGET', KEYS[2], 'suspended', 'until')
  if gate[1] then return {now, 'suspended', 0} end
  if gate[2] and tonumber(gate[2]) > now then return {now, 'paused', 0} end
end

local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
local answer = {now, 'open', 0}
for i = 1, #due do
  redis.call('ZADD', KEYS[1], now + ARGV[2], due[i])
  answer[i + 3] = due[i]
end
if #due == tonumber(ARGV[1]) then answer[3] = redis.call('ZCOUNT', KEYS[1], '-inf', now) end
return answer
