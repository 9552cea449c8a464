-- Show which workflows have lineages that wait for them, and the first of each.
--
-- KEYS[1] index of waiting lineages
-- ARGV[1] workflows at most   ARGV[2] lineages of each at most   ARGV[3] where to begin: "-" or "(member"
-- Returns {server time in ms, member, …}.
local answer, from = {now}, ARGV[3]
for _ = 1, tonumber(ARGV[1]) do
  local members = redis.call('ZRANGEBYLEX', KEYS[1], from, '+', 'LIMIT', 0, ARGV[2])
  if #members == 0 then break end
  local workflow = string.match(members[1], '^(.-)\n')
  for _, member in ipairs(members) do
    if string.match(member, '^(.-)\n') == workflow then answer[#answer + 1] = member end
  end
  from = '[' .. workflow .. '\n\255'
end
return answer
