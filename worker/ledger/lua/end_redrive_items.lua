-- Put on record what became of items of a redrive: each once, however often it is told.
--
-- KEYS[1] hash of the redrive     KEYS[2] index of its pending items
-- KEYS[3] hash of its items without an outcome   KEYS[4] list of results
-- ARGV[1] newest verdicts of a round that are kept
-- ARGV[2..] root, member of the pending items ("" = it was released), outcome, its round, verdict ("+", "-" or ""), and
--           the result (JSON, without `at`), repeated
-- Returns {server time in ms, how many were new}.
local ended = 0
for i = 2, #ARGV, 6 do
  local member, round, verdict = ARGV[i + 1], ARGV[i + 3], ARGV[i + 4]
  local had
  if member ~= '' then had = redis.call('ZREM', KEYS[2], member) else had = redis.call('HDEL', KEYS[3], ARGV[i]) end
  if had == 1 then
    local result = cjson.decode(ARGV[i + 5])
    result.at = now
    redis.call('RPUSH', KEYS[4], cjson.encode(result))
    redis.call('HINCRBY', KEYS[1], ARGV[i + 2], 1)
    if verdict ~= '' then
      local recent = (redis.call('HGET', KEYS[1], 'round:' .. round) or '') .. verdict
      redis.call('HSET', KEYS[1], 'round:' .. round, string.sub(recent, -tonumber(ARGV[1])))
    end
    ended = ended + 1
  end
end
return {now, ended}
