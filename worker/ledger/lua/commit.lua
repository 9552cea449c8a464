-- Commit one step of a lineage: compare the version, write the record, move the indexes, append the
-- events, count them. All of it or nothing.
--
-- Re-sending it is harmless: the record carries the token of the write that made it, so a script that
-- already succeeded recognises itself and does nothing twice.
--
-- KEYS[1] the lineage's record            KEYS[5] stream of events
-- KEYS[2] index of the state it leaves    KEYS[6] hash of counters
-- KEYS[3] index of the state it enters    KEYS[7] hash of the gate
--         (what has ended is in the index of its group only)
-- KEYS[4] hash: clone -> root             KEYS[8] record that the claimed clone would have as a root
-- KEYS[9] hash of facts about this ledger
-- KEYS[10] index of lineages of its workflow in flight
-- KEYS[11] index of calls that make a clone, as far as is known, of its workflow; KEYS[12] of all
-- KEYS[13] index of its workflow's runs that ended
-- KEYS[14] hash of five minutes -> runs that ended, of its workflow; KEYS[15] of all
-- KEYS[16] index of lineages that wait for their workflow
-- KEYS[17] hash of breakers               KEYS[18] hash of the token bucket
-- KEYS[19], KEYS[20], KEYS[21] indexes of the states in which a clone may be under way
-- KEYS[22] hash: key (workflow version and fingerprint) -> root
-- KEYS[23] hash: group, or final state -> lineages in it; KEYS[24], KEYS[25] index of the group it leaves, and enters
-- KEYS[26] hash: workflow -> name         KEYS[27] hash of verdicts ever given
-- KEYS[28] hash of what became of clones in this hour
-- KEYS[29] sums of clones made, of its workflow; KEYS[30] of all
-- ARGV[1] version expected; 0 = there must be no record yet
-- ARGV[2] token of this write             ARGV[3] the new record, JSON with `version` and `token`
-- ARGV[4] root                            ARGV[5] score in the new index, ms; "" = it has ended
-- ARGV[6] clone to claim, or ""           ARGV[7] limits of an intent, JSON (see `admit`), or ""
-- ARGV[8] longest stream kept             ARGV[9] first start that the caller knows, ms, or ""
-- ARGV[10] "+" the lineage enters flight, "-" it leaves it, "" neither
-- ARGV[11] member of KEYS[11] and KEYS[12]; ARGV[12] "+" a clone is about to be made, "-" none was, "=" it was, "!" it
--          was although it was thought that none was, or ""
-- ARGV[13] member of the index of runs for a run that ended, or ""; ARGV[14] when it ended, ms
-- ARGV[15] "1" = it counts as traffic     ARGV[16] member of the index of waiting lineages, or ""
-- ARGV[17] "+" it waits, "-" it no longer does, or ""
-- ARGV[18] field of its key in KEYS[22], or ""
-- ARGV[19] what is counted, JSON: `from`, `to` groups ("" = none), `since` (ms), `workflow`, `name`, `verdict` (""
--          = none), `returned` (fields of KEYS[28]), `keep_ms` (how long that hash is kept)
-- ARGV[20..] event name, event data (JSON), repeated
-- Returns {outcome, server time in ms}; outcome is one of committed, stale, gated, limited, paced, taken.

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

-- Return why an intent must not be recorded now, or nil. The limits were worked out from what was known of the
-- workflow; whether they still hold is decided here, in the same step that counts the new clone.
local function admit(limits)
  local says = gate_for_retry(KEYS[7], KEYS[3], ARGV[5] - now)
  if says ~= 'open' and says ~= 'opening' then return 'gated' end
  if limits.workflow then
    local breaker = redis.call('HGET', KEYS[17], limits.workflow)
    if (breaker and cjson.decode(breaker).version or 0) ~= limits.breaker then return 'limited' end
  end
  local function reached(most, count) return most and count() >= most end
  local function in_flight() return redis.call('ZCARD', KEYS[10]) end
  local function all_in_flight()
    return redis.call('ZCARD', KEYS[19]) + redis.call('ZCARD', KEYS[20]) + redis.call('ZCARD', KEYS[21])
  end
  local function all_made(within) return count_made(KEYS[12], KEYS[30], SPAN_OF_ALL_MS, within) end
  local function trying() return redis.call('ZCOUNT', KEYS[10], now - limits.longest_pause, '+inf') end
  if reached(limits.places, trying) or reached(limits.in_flight, in_flight) then return 'limited' end
  if reached(limits.all_in_flight, all_in_flight) then return 'limited' end
  local made = limits.window and count_made(KEYS[11], KEYS[29], SPAN_MS, limits.window)
  if made and made >= limits.floor then
    if reached(limits.made, function() return made end) then return 'limited' end
    if reached(limits.all_made, function() return all_made(limits.window) end) then return 'limited' end
  end
  if reached(limits.made_lately, function() return all_made(limits.pace_window) end) then return 'limited' end
  if limits.rate and not take_token(KEYS[18], limits.rate, limits.burst) then return 'paced' end
  return nil
end

if ARGV[7] ~= '' then
  local refused = admit(cjson.decode(ARGV[7]))
  if refused then return {refused, now} end
end

if ARGV[6] ~= '' then
  local owner = redis.call('HGET', KEYS[4], ARGV[6])
  if (owner and owner ~= ARGV[4]) or redis.call('EXISTS', KEYS[8]) == 1 then return {'taken', now} end
  redis.call('HSET', KEYS[4], ARGV[6], ARGV[4])
end

redis.call('SET', KEYS[1], ARGV[3])
local ended = ARGV[5] == ''
if ended or KEYS[2] ~= KEYS[3] then redis.call('ZREM', KEYS[2], ARGV[4]) end
if not ended then redis.call('ZADD', KEYS[3], ARGV[5], ARGV[4]) end

if ARGV[10] == '+' then redis.call('ZADD', KEYS[10], now, ARGV[4]) end
if ARGV[10] == '-' then redis.call('ZREM', KEYS[10], ARGV[4]) end
if ARGV[12] == '+' then
  for i = 11, 12 do
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now - KEEP_MADE_MS)
    redis.call('ZADD', KEYS[i], now, ARGV[11])
  end
elseif ARGV[12] ~= '' then
  -- What a person ordered is in no index, and is not counted.
  local counted = redis.call('ZREM', KEYS[11], ARGV[11]) == 1
  redis.call('ZREM', KEYS[12], ARGV[11])
  if ARGV[12] == '!' or (ARGV[12] == '=' and counted) then
    add_made(KEYS[29], SPAN_MS)
    add_made(KEYS[30], SPAN_OF_ALL_MS)
  end
end
if ARGV[13] ~= '' then
  local counts = ARGV[15] == '1'
  note_run(KEYS[13], counts and KEYS[14], counts and KEYS[15], ARGV[13], tonumber(ARGV[14]))
end
if ARGV[17] == '+' then redis.call('ZADD', KEYS[16], 0, ARGV[16]) end
if ARGV[17] == '-' then redis.call('ZREM', KEYS[16], ARGV[16]) end

-- The newest lineage is the one whose retry a person may have made. Where that one was forgotten, because it turned
-- out to be the clone of another, the other is found again from here on.
if ARGV[18] ~= '' then
  if not stored then redis.call('HSET', KEYS[22], ARGV[18], ARGV[4])
  elseif ARGV[6] ~= '' then redis.call('HSETNX', KEYS[22], ARGV[18], ARGV[4]) end
end

local counted = cjson.decode(ARGV[19])
move_group(KEYS[23], KEYS[24], KEYS[25], counted.from, counted.to, ARGV[4], counted.since)
if not stored then redis.call('HSET', KEYS[26], counted.workflow, counted.name) end
if counted.verdict ~= '' then redis.call('HINCRBY', KEYS[27], counted.verdict, 1) end
for _, field in ipairs(counted.returned) do redis.call('HINCRBY', KEYS[28], field, 1) end
if #counted.returned > 0 then redis.call('PEXPIRE', KEYS[28], counted.keep_ms) end

for i = 20, #ARGV, 2 do
  redis.call('XADD', KEYS[5], 'MAXLEN', '~', ARGV[8], '*', 'event', ARGV[i], 'root', ARGV[4], 'data', ARGV[i + 1])
  redis.call('HINCRBY', KEYS[6], ARGV[i], 1)
end
return {'committed', now}
