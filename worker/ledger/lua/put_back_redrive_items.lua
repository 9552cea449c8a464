-- Let items wait for their turn again whose order was not stored; not those of which it is known that it was.
--
-- KEYS[1] hash of a redrive's items without an outcome   KEYS[2] index of its pending items
-- ARGV[1..] root, member of the pending items, place in the order, repeated
-- Returns {server time in ms, how many}.
local back = 0
for i = 1, #ARGV, 3 do
  local stored = redis.call('HGET', KEYS[1], ARGV[i])
  if stored and not cjson.decode(stored).released then
    redis.call('HDEL', KEYS[1], ARGV[i])
    redis.call('ZADD', KEYS[2], ARGV[i + 2], ARGV[i + 1])
    back = back + 1
  end
end
return {now, back}
