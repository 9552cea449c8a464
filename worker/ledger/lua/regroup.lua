-- Put a lineage that an older worker wrote into its group, unless its record has changed meanwhile.
--
-- KEYS[1] the lineage's record    KEYS[2] hash: group -> lineages in it
-- KEYS[3] index of its group      KEYS[4] hash: workflow -> name
-- ARGV[1] version expected   ARGV[2] root   ARGV[3] its group   ARGV[4] since when it is in its state, ms
-- ARGV[5] workflow           ARGV[6] its name
-- Returns {server time in ms, 1 when it is in its group now, 0 when the version differs}.
local stored = redis.call('GET', KEYS[1])
if not stored or cjson.decode(stored).version ~= tonumber(ARGV[1]) then return {now, 0} end
move_group(KEYS[2], '', KEYS[3], '', ARGV[3], ARGV[2], ARGV[4])
redis.call('HSETNX', KEYS[4], ARGV[5], ARGV[6])
return {now, 1}
