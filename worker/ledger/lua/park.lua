-- Let a lineage wait for its workflow: hidden among what is due until a time, and on the index of those that wait.
--
-- KEYS[1] the lineage's record   KEYS[2] index of what is scheduled   KEYS[3] index of waiting lineages
-- ARGV[1] version expected       ARGV[2] root
-- ARGV[3] ms: when it is looked at all the same                       ARGV[4] its place on KEYS[3]
-- Returns {server time in ms, 1 when it waits, 0 when it has moved on}.
local stored = redis.call('GET', KEYS[1])
if not stored or cjson.decode(stored).version ~= tonumber(ARGV[1]) then return {now, 0} end
redis.call('ZADD', KEYS[2], 'XX', ARGV[3], ARGV[2])
redis.call('ZADD', KEYS[3], 0, ARGV[4])
return {now, 1}
