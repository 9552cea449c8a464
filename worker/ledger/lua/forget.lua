-- Forget a lineage whose verdict is older than the retention. An execution whose failure had no date is
-- remembered by name, or the next listing would take it for a new failure.
--
-- KEYS[1] the lineage's record   KEYS[2] index of its state   KEYS[3] hash: clone -> root
-- KEYS[4] set of undated executions that were dealt with
-- KEYS[5] hash: workflow version and fingerprint -> root
-- ARGV[1] version expected   ARGV[2] root   ARGV[3] "1" = remember its executions by name
-- ARGV[4] field of its key in KEYS[5], or ""   ARGV[5..] its clones
-- Returns {server time in ms, 1 when forgotten, 0 when the version differs}.
local stored = redis.call('GET', KEYS[1])
if stored and cjson.decode(stored).version ~= tonumber(ARGV[1]) then return {now, 0} end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[2])
if ARGV[3] == '1' then redis.call('SADD', KEYS[4], ARGV[2]) end
if ARGV[4] ~= '' and redis.call('HGET', KEYS[5], ARGV[4]) == ARGV[2] then redis.call('HDEL', KEYS[5], ARGV[4]) end
for i = 5, #ARGV do
  redis.call('HDEL', KEYS[3], ARGV[i])
  if ARGV[3] == '1' then redis.call('SADD', KEYS[4], ARGV[i]) end
end
return {now, 1}
