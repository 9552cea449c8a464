-- Let no retry call leave, or let them leave again: a person's word, which holds for every worker from now on.
--
-- KEYS[1] hash of the gate   KEYS[2] stream of events   KEYS[3] hash of counters
-- ARGV[1] the halt, JSON; "" = resume      ARGV[2] until when, ms; "" = until someone resumes
-- ARGV[3] longest stream kept              ARGV[4] event name   ARGV[5] event data (JSON)
-- Returns {server time in ms, 1 when that changed something, the halt that there was (JSON or "")}.
local halt = redis.call('HMGET', KEYS[1], 'halt', 'halt_until')
local is_over = halt[2] and tonumber(halt[2]) <= now
local before = halt[1] and not is_over and halt[1] or ''
if ARGV[1] == before or (ARGV[1] ~= '') == (before ~= '') then return {now, 0, before} end
redis.call('HDEL', KEYS[1], 'halt', 'halt_until')
if ARGV[1] ~= '' then redis.call('HSET', KEYS[1], 'halt', ARGV[1]) end
if ARGV[1] ~= '' and ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'halt_until', ARGV[2]) end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'event', ARGV[4], 'root', '', 'data', ARGV[5])
redis.call('HINCRBY', KEYS[3], ARGV[4], 1)
return {now, 1, before}
