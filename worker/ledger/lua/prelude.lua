-- Put in front of every script: the time, and what the gate before the API says.
--
-- `now` is the server's time in ms, the one clock of all workers.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Calls at once with which the gate is fully open again.
local FULLY_OPEN = 64
-- A retry call that is longer under way does not hold a place while the gate opens.
local PLACE_MS = 30000
-- What the workers' clocks, cut to milliseconds, may lie behind this one.
local SLACK_MS = 5
-- A pause that ends later than this was asked for before the server's clock was put back.
local LONGEST_PAUSE_MS = 3700000

-- Return what the gate says ("open", "opening", "suspended", "down" or "paused") and how many retry calls
-- may be under way at once (0 while it is closed, -1 for any number).
--
-- After it was closed the gate opens by steps: one call, then one more with every call that was answered,
-- and never more than 2^s in the second s. A platform that just came back is not met by all that waited.
local function gate_says(key)
  local gate = redis.call('HMGET', key, 'kind', 'until', 'opening_since', 'answered')
  if gate[1] then return gate[1], 0 end
  local till = tonumber(gate[2] or 0)
  if till > now and till <= now + LONGEST_PAUSE_MS then return 'paused', 0 end
  if not gate[3] then return 'open', -1 end
  local seconds = math.max(0, math.min(math.floor((now - tonumber(gate[3])) / 1000), 30))
  local places = math.min(1 + tonumber(gate[4] or 0), 2 ^ seconds)
  if places >= FULLY_OPEN then return 'open', -1 end
  return 'opening', places
end

-- Return the gate's word for a retry call: "halted" while a person lets none leave; "opening" becomes "full" when every place is taken.
-- `submitting` is the index of calls under way, by the end of their lease; `lease_ms` is how long that is.
local function gate_for_retry(key, submitting, lease_ms)
  local says, places = gate_says(key)
  if says ~= 'open' and says ~= 'opening' then return says, places end
  local halt = redis.call('HMGET', key, 'halt', 'halt_until')
  if halt[1] and (not halt[2] or tonumber(halt[2]) > now) then return 'halted', 0 end
  if says == 'open' then return says, places end
  local since = math.max(tonumber(redis.call('HGET', key, 'opening_since')), now - PLACE_MS)
  local free = places - redis.call('ZCOUNT', submitting, since + lease_ms - SLACK_MS, '+inf')
  if free <= 0 then return 'full', 0 end
  return says, free
end

-- Close the gate until a probe succeeds. The first pause is `shortest` ms, doubled by every closing since a retry
-- call was answered last, `longest` at most: a key that may read but not retry, or a platform that answers
-- GETs only, is not hammered. Each probe doubles the pause as well.
local function close_until_probed(key, kind, reason, detail, shortest, longest)
  local known = redis.call('HMGET', key, 'opened_at', 'closings')
  local closings = tonumber(known[2] or 0)
  if not known[1] or now - tonumber(known[1]) > 600000 then closings = 0 end
  local pause = math.floor(math.min(shortest * 2 ^ math.min(closings, 30), longest))
  redis.call('HDEL', key, 'opening_since', 'answered', 'heard_at', 'failing', 'retry_heard_at', 'retry_failing',
    'answered_begun', 'retry_answered_begun')
  redis.call('HSET', key, 'kind', kind, 'reason', reason, 'detail', detail, 'since', now)
  redis.call('HSET', key, 'probe_at', now + pause, 'pause', pause, 'closings', closings + 1)
end

-- What has ended is counted by its state as well: it is in the index of its group only.
local ENDED = {recovered = true, exhausted = true, rejected = true, cancelled = true}

local function state_of(group) return string.match(group, '^%l+') end

local function count_group(counts, group, by)
  if redis.call('HINCRBY', counts, group, by) <= 0 then redis.call('HDEL', counts, group) end
  local state = state_of(group)
  if ENDED[state] and redis.call('HINCRBY', counts, state, by) <= 0 then redis.call('HDEL', counts, state) end
end

-- Move a lineage from one group to another ("" = none), and keep the counts of both in step with their indexes.
local function move_group(counts, from_index, to_index, from, to, root, since)
  if from ~= '' and from ~= to and redis.call('ZREM', from_index, root) == 1 then count_group(counts, from, -1) end
  if to ~= '' and redis.call('ZADD', to_index, since, root) == 1 then count_group(counts, to, 1) end
end

-- Five minutes: runs are counted by them.
local TRAFFIC_MS = 300000
-- Runs and clones that are remembered to be counted, at most: a day.
local KEEP_MADE_MS = 86400000
-- Newest runs of a workflow by which its breaker is judged.
local MOST_RUNS = 200
local KEEP_RUNS_MS = 86400000

-- Clones that are known to be made are summed up: an index of how many there were ever (member), by the beginning of
-- the span (score) in which that was so. A million of them take no more than the spans of a day.
local SPAN_MS = 60000
-- Of all workflows: by these the pace of five minutes is kept.
local SPAN_OF_ALL_MS = 5000

-- Count one clone more.
local function add_made(sums, span_ms)
  local newest = redis.call('ZPOPMAX', sums)
  if not newest[1] then return redis.call('ZADD', sums, now, 1) end
  local total, began = newest[1], newest[2]
  if now - began < span_ms then return redis.call('ZADD', sums, began, total + 1) end
  redis.call('ZADD', sums, began, total, now, total + 1)
  -- The newest of those that are too old stays: what came after it is counted from it.
  local old = redis.call('ZCOUNT', sums, '-inf', now - KEEP_MADE_MS - span_ms)
  if old > 1 then redis.call('ZREMRANGEBYRANK', sums, 0, old - 2) end
end

-- Return how many clones were made, or may be, within the last `within` ms; up to a span more.
local function count_made(in_doubt, sums, span_ms, within)
  local newest = redis.call('ZREVRANGE', sums, 0, 0)
  local before = redis.call('ZREVRANGEBYSCORE', sums, now - within - span_ms, '-inf', 'LIMIT', 0, 1)
  return redis.call('ZCOUNT', in_doubt, now - within, '+inf') + (newest[1] or 0) - (before[1] or 0)
end

-- Remember how a run ended and, where hashes are given, count it as traffic; once, however often it is told.
local function note_run(runs, traffic, all_traffic, member, ended_at)
  if ended_at < now - KEEP_RUNS_MS then return end
  if redis.call('ZADD', runs, math.min(ended_at, now), member) == 0 then return end
  redis.call('ZREMRANGEBYRANK', runs, 0, -MOST_RUNS - 1)
  for _, key in ipairs(traffic and {traffic, all_traffic} or {}) do
    local bucket = math.floor(ended_at / TRAFFIC_MS)
    if redis.call('HINCRBY', key, bucket, 1) == 1 then
      for _, old in ipairs(redis.call('HKEYS', key)) do
        if tonumber(old) < (now - KEEP_MADE_MS) / TRAFFIC_MS then redis.call('HDEL', key, old) end
      end
    end
  end
end

-- Return how many retry calls a token bucket allows now: `rate` more with each second, `burst` at most.
local function tokens_in(key, rate, burst)
  local bucket = redis.call('HMGET', key, 'tokens', 'at')
  if not bucket[1] then return burst end
  local passed = math.max(0, now - tonumber(bucket[2])) / 1000
  return math.min(burst, tonumber(bucket[1]) + passed * rate)
end

-- Take one token; return whether there was one.
local function take_token(key, rate, burst)
  local tokens = tokens_in(key, rate, burst)
  if tokens < 1 then return false end
  redis.call('HSET', key, 'tokens', string.format('%.6f', tokens - 1), 'at', now)
  return true
end

