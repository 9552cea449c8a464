-- Write down which items of a redrive are about to be released: what a worker that dies leaves half done is
-- found here. Only while the redrive goes on, by the worker whose turn it is, as the rate allows, and with no
-- more under way than was asked for.
--
-- KEYS[1] hash of the redrive     KEYS[2] index of its pending items
-- KEYS[3] hash of its items without an outcome
-- KEYS[4] hash of the job that releases
-- ARGV[1] version expected of where it stands   ARGV[2] token of the job's turn
-- ARGV[3] releases per second   ARGV[4] releases at once   ARGV[5] most under way
-- ARGV[6..] member of the pending items, root, and the item (JSON, without `at`), repeated
-- Returns {server time in ms, root, …}: those that are written down now, and only those.
local standing = redis.call('HGET', KEYS[1], 'standing')
if not standing or cjson.decode(standing).version ~= tonumber(ARGV[1]) then return {now} end
if redis.call('HGET', KEYS[4], 'owner') ~= ARGV[2] then return {now} end
local noted = {now}
for i = 6, #ARGV, 3 do
  if redis.call('HLEN', KEYS[3]) >= tonumber(ARGV[5]) then break end
  if redis.call('ZSCORE', KEYS[2], ARGV[i]) then
    if not take_token(KEYS[1], tonumber(ARGV[3]), tonumber(ARGV[4])) then break end
    redis.call('ZREM', KEYS[2], ARGV[i])
    local item = cjson.decode(ARGV[i + 2])
    item.at = now
    redis.call('HSET', KEYS[3], ARGV[i + 1], cjson.encode(item))
    noted[#noted + 1] = ARGV[i + 1]
  end
end
return noted
