-- Remember when the worker was started first: failures older than that are left alone.
--
-- KEYS[1] hash of facts about this ledger
-- ARGV[1] ms that this process has been up (the server may have been unreachable since)
-- ARGV[2] format of the records; an older ledger is of this format from now on, and older workers leave it alone
-- Returns {server time in ms, first start in ms, format, format up to which keys are named as today}.
local first = redis.call('HSETNX', KEYS[1], 'started_at', now - ARGV[1])
local format = tonumber(redis.call('HGET', KEYS[1], 'format') or 0)
if first == 1 then redis.call('HSET', KEYS[1], 'grouped', ARGV[2], 'keyed', ARGV[2]) end
if format < tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], 'format', ARGV[2]) end
local facts = redis.call('HMGET', KEYS[1], 'started_at', 'format', 'keyed')
return {now, tonumber(facts[1]), facts[2], tonumber(facts[3] or 0)}
