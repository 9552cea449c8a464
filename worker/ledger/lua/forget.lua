-- Forget a lineage whose verdict is older than the retention. An execution whose failure had no date is
-- remembered by name, or the next listing would take it for a new failure.
--
-- KEYS[1] the lineage's record   KEYS[2] index of its state   KEYS[3] hash: clone -> root
-- KEYS[4] set of undated executions that were dealt with
-- KEYS[5] hash: key (workflow version and fingerprint) -> root
-- ARGV[1] version expected   ARGV[2] root   ARGV[3] "1" = remember its executions by name
-- KEYS[6] hash: group -> lineages in it   KEYS[7] index of its group
-- ARGV[4] field of its key in KEYS[5], or ""   ARGV[5] its group   ARGV[6..] its clones
-- Returns {server time in ms, 1 when forgotten, 0 when the version differs}.
local stored = redis.call('GET', KEYS[1])
if stored and cjson.decode(stored).version ~= tonumber(ARGV[1]) then return {now, 0} end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[2])
if ARGV[3] == '1' then redis.call('SADD', KEYS[4], ARGV[2]) end
if ARGV[4] ~= '' and redis.call('HGET', KEYS[5], ARGV[4]) == ARGV[2] then redis.call('HDEL', KEYS[5], ARGV[4]) end
move_group(KEYS[6], KEYS[7], '', ARGV[5], '', ARGV[2], 0)
for i = 6, #ARGV do
  redis.call('HDEL', KEYS[3], ARGV[i])
  if ARGV[3] == '1' then redis.call('SADD', KEYS[4], ARGV[i]) end
end
return {now, 1}
