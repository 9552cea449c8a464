-- Put a lineage that an older worker wrote into its group, and its record into the format of today, unless it
-- has changed meanwhile. Its version grows: what an older worker still holds of it cannot be stored any more.
--
-- KEYS[1] the lineage's record    KEYS[2] hash: group -> lineages in it
-- KEYS[3] index of its group      KEYS[4] hash: workflow -> name
-- KEYS[5] index of its state
-- ARGV[1] version expected   ARGV[2] root   ARGV[3] its group   ARGV[4] since when it is in its state, ms
-- ARGV[5] workflow           ARGV[6] its name
-- ARGV[7] the new record, JSON                ARGV[8] format of today
-- ARGV[9] "1" = it has ended: it is in no index of a state any more
-- Returns {server time in ms, 1 when it was of an older format and is in its group now, else 0}.
local stored = redis.call('GET', KEYS[1])
if not stored then return {now, 0} end
local record = cjson.decode(stored)
if record.version ~= tonumber(ARGV[1]) or record.format >= tonumber(ARGV[8]) then return {now, 0} end
redis.call('SET', KEYS[1], ARGV[7])
move_group(KEYS[2], '', KEYS[3], '', ARGV[3], ARGV[2], ARGV[4])
if ARGV[9] == '1' then redis.call('ZREM', KEYS[5], ARGV[2]) end
redis.call('HSETNX', KEYS[4], ARGV[5], ARGV[6])
return {now, 1}
