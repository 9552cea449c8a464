-- Commit one step of a lineage: compare the version, write the record, move the index, append the
-- events, count them. All of it or nothing.
--
-- Re-sending it is harmless: the record carries the token of the write that made it, so a script that
-- already succeeded recognises itself and does nothing twice.
--
-- KEYS[1] the lineage's record            KEYS[5] stream of events
-- KEYS[2] index of the state it leaves    KEYS[6] hash of counters
-- KEYS[3] index of the state it enters    KEYS[7] hash of the gate
-- KEYS[4] hash: clone -> root             KEYS[8] record that the claimed clone would have as a root
-- KEYS[9] hash of facts about this ledger
-- ARGV[1] version expected; 0 = there must be no record yet
-- ARGV[2] token of this write             ARGV[3] the new record, JSON with `version` and `token`
-- ARGV[4] root                            ARGV[5] score in the new index, ms
-- ARGV[6] clone to claim, or ""           ARGV[7] "1" = only if the gate lets a retry call through
-- ARGV[8] longest stream kept             ARGV[9] first start that the caller knows, ms, or ""
-- ARGV[10..] event name, event data (JSON), repeated
-- Returns {outcome, server time in ms}; outcome is one of committed, stale, gated, taken.

local stored = redis.call('GET', KEYS[1])
if stored then
  local record = cjson.decode(stored)
  if record.token == ARGV[2] then return {'committed', now} end
  if record.version ~= tonumber(ARGV[1]) then return {'stale', now} end
elseif tonumber(ARGV[1]) ~= 0 then
  return {'stale', now}
elseif redis.call('HEXISTS', KEYS[4], ARGV[4]) == 1 then
  return {'taken', now}
elseif ARGV[9] ~= '' and redis.call('HGET', KEYS[9], 'started_at') ~= ARGV[9] then
  -- The ledger was lost between two commands of the caller: what looked unknown may be long dealt with.
  return {'stale', now}
end

if ARGV[7] == '1' then
  local says = gate_for_retry(KEYS[7], KEYS[3], ARGV[5] - now)
  if says ~= 'open' and says ~= 'opening' then return {'gated', now} end
end

if ARGV[6] ~= '' then
  local owner = redis.call('HGET', KEYS[4], ARGV[6])
  if (owner and owner ~= ARGV[4]) or redis.call('EXISTS', KEYS[8]) == 1 then return {'taken', now} end
  redis.call('HSET', KEYS[4], ARGV[6], ARGV[4])
end

redis.call('SET', KEYS[1], ARGV[3])
if KEYS[2] ~= KEYS[3] then redis.call('ZREM', KEYS[2], ARGV[4]) end
redis.call('ZADD', KEYS[3], ARGV[5], ARGV[4])
for i = 10, #ARGV, 2 do
  redis.call('XADD', KEYS[5], 'MAXLEN', '~', ARGV[8], '*', 'event', ARGV[i], 'root', ARGV[4], 'data', ARGV[i + 1])
  redis.call('HINCRBY', KEYS[6], ARGV[i], 1)
end
return {'committed', now}
