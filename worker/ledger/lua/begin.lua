-- Remember when the worker was started first: failures older than that are left alone.
--
-- KEYS[1] hash of facts about this ledger
-- ARGV[1] ms that this process has been up (the server may have been unreachable since)
-- ARGV[2] format of the records
-- Returns {server time in ms, first start in ms, format, 1 when this call was the first}.
local first = redis.call('HSETNX', KEYS[1], 'started_at', now - ARGV[1])
redis.call('HSETNX', KEYS[1], 'format', ARGV[2])
local facts = redis.call('HMGET', KEYS[1], 'started_at', 'format')
return {now, tonumber(facts[1]), facts[2], first}
