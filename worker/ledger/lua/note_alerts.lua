-- Write down what alerts heard, mean to say and have said; whoever lost the turn meanwhile changes nothing.
--
-- KEYS[1] hash of the job   KEYS[2] hash of alerts   KEYS[3] list of what was said
-- ARGV[1] token of the turn   ARGV[2] names this write   ARGV[3] the memory (JSON)
-- ARGV[4] format of the memory   ARGV[5] how many entries the list keeps
-- ARGV[6..] what was said since the last write (JSON), oldest first
-- Returns {server time in ms, 1 when it is written, else 0}.
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return {now, 0} end
-- Sent again because its answer was lost: the list must not tell twice what was said once.
if redis.call('HGET', KEYS[2], 'write') == ARGV[2] then return {now, 1} end
redis.call('HSET', KEYS[2], 'memory', ARGV[3], 'format', ARGV[4], 'write', ARGV[2])
for i = 6, #ARGV do redis.call('LPUSH', KEYS[3], ARGV[i]) end
if #ARGV > 5 then redis.call('LTRIM', KEYS[3], 0, tonumber(ARGV[5]) - 1) end
return {now, 1}
