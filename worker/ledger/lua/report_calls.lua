-- Take in how calls to the API ended, and close the gate when they say that it is down.
--
-- The share of failing calls, for GETs and for retry calls apart, is a moving average in which the newest call weighs a tenth. At 85% it closes the
-- gate: after 5 failures when nothing was heard for a while, after 19 in the middle of good work (these are in
-- the air together), and hardly ever while half of all calls fail (once in 5,000). While the gate opens, the first
-- retry call that fails closes it again.
--
-- A failure is old news when a call that was begun after it was answered, or when it was begun before the gate
-- opened: calls that hang end long after others have shown that the API answers.
--
-- KEYS[1] hash of the gate
-- ARGV[1] calls that were answered   ARGV[2] retry calls among them   ARGV[3] 1 when this call failed, else 0
-- ARGV[4] when the failed call was begun, ms   ARGV[5] 1 when it was a retry call, else 0
-- ARGV[6] ms after which what was heard before says nothing any more
-- ARGV[7] reason   ARGV[8] detail    ARGV[9] ms: shortest until the first probe   ARGV[10] ms: longest
-- ARGV[11] when the call that was answered last was begun, ms   ARGV[12] the same of retry calls
-- Returns {server time in ms, "closed" when this call closed it, "was_closed", or "open"}.
local WEIGHT, NOTHING_KNOWN, CLOSES_AT = 0.1, 0.75, 0.85

local says = gate_says(KEYS[1])
if says ~= 'open' and says ~= 'opening' then return {now, 'was_closed'} end

-- An answered GET does not speak for POSTs: they are counted apart.
local retry = ARGV[5] == '1'
local gate = redis.call('HMGET', KEYS[1], 'opening_since', 'answered', 'answered_begun', 'retry_answered_begun')
-- Begun times are of the workers' clocks, which may run ahead a little; none may outlast a step of the clock.
local answered_begun = math.min(now, math.max(tonumber(gate[3] or 0), tonumber(ARGV[11])))
local retry_answered_begun = math.min(now, math.max(tonumber(gate[4] or 0), tonumber(ARGV[12])))
redis.call('HSET', KEYS[1], 'answered_begun', answered_begun, 'retry_answered_begun', retry_answered_begun)

local newest = retry and retry_answered_begun or answered_begun
local failed = ARGV[3] == '1' and tonumber(ARGV[4]) >= math.max(newest, tonumber(gate[1] or 0))

-- Return the share of failing calls of a kind after so many answers and, perhaps, a failure.
local function heard(kind, answers, failure)
  local known = redis.call('HMGET', KEYS[1], kind .. 'heard_at', kind .. 'failing')
  local failing = tonumber(known[2] or NOTHING_KNOWN)
  if not known[1] or math.abs(now - tonumber(known[1])) > tonumber(ARGV[6]) then failing = NOTHING_KNOWN end
  failing = failing * (1 - WEIGHT) ^ answers
  if failure then failing = failing * (1 - WEIGHT) + WEIGHT end
  redis.call('HSET', KEYS[1], kind .. 'heard_at', now, kind .. 'failing', string.format('%.6f', failing))
  return failing
end

local retries = tonumber(ARGV[2])
local looks = ARGV[1] - retries
local failing = 0
if retries > 0 or (failed and retry) then failing = heard('retry_', retries, failed and retry) end
if looks > 0 or (failed and not retry) then
  local looks_failing = heard('', looks, failed and not retry)
  if not retry then failing = looks_failing end
end

local answered = tonumber(gate[2] or 0) + retries
if says == 'opening' then
  redis.call('HSET', KEYS[1], 'answered', answered)
  if answered > 0 then redis.call('HDEL', KEYS[1], 'closings') end
elseif gate[1] then
  redis.call('HDEL', KEYS[1], 'opening_since', 'answered', 'closings')
end

local canary_failed = says == 'opening' and answered == 0 and retry
if not failed or not (canary_failed or failing >= CLOSES_AT) then return {now, 'open'} end
close_until_probed(KEYS[1], 'down', ARGV[7], ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10]))
return {now, 'closed'}
