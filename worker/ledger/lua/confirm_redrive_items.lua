-- Note of items that were written down before that their order is stored now, as long as they have no outcome.
--
-- KEYS[1] hash of a redrive's items without an outcome
-- ARGV[1..] roots
-- Returns {server time in ms, how many}.
local confirmed = 0
for _, root in ipairs(ARGV) do
  local stored = redis.call('HGET', KEYS[1], root)
  if stored then
    local item = cjson.decode(stored)
    item.released = true
    redis.call('HSET', KEYS[1], root, cjson.encode(item))
    confirmed = confirmed + 1
  end
end
return {now, confirmed}
