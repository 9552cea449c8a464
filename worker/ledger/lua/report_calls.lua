-- Take in how calls to the API ended, and close the gate when they say that it is down: when at least ARGV[6]
-- calls of the last window failed and four of five did, or when the first retry call after an opening fails.
--
-- KEYS[1] hash of the gate
-- ARGV[1] calls that were answered   ARGV[2] retry calls among them   ARGV[3] 1 when this call failed, else 0
-- ARGV[4] when the failed call was begun, ms: what was begun before the gate opened is old news
-- ARGV[5] 1 when the failed call was a retry call, else 0   ARGV[6] failures that close it
-- ARGV[7] ms of a window             ARGV[8] reason   ARGV[9] detail
-- ARGV[10] ms: shortest until the first probe   ARGV[11] ms: longest
-- Returns {server time in ms, "closed" when this call closed it, "was_closed", or "open"}.
local says = gate_says(KEYS[1])
if says ~= 'open' and says ~= 'opening' then return {now, 'was_closed'} end

local gate = redis.call('HMGET', KEYS[1], 'window_at', 'good', 'bad', 'opening_since', 'answered')
local good, bad = tonumber(gate[2] or 0), tonumber(gate[3] or 0)
if not gate[1] or now - tonumber(gate[1]) > tonumber(ARGV[7]) then
  good, bad = 0, 0
  redis.call('HSET', KEYS[1], 'window_at', now)
end
local opened_at = tonumber(gate[4] or 0)
local failed = tonumber(ARGV[3])
if tonumber(ARGV[4]) < opened_at then failed = 0 end
good, bad = good + ARGV[1], bad + failed
redis.call('HSET', KEYS[1], 'good', good, 'bad', bad)

local answered = tonumber(gate[5] or 0) + ARGV[2]
if says == 'opening' then
  redis.call('HSET', KEYS[1], 'answered', answered)
elseif says == 'open' and gate[4] then
  redis.call('HDEL', KEYS[1], 'opening_since', 'answered', 'probes')
end

local canary_failed = says == 'opening' and answered == 0 and ARGV[5] == '1'
local enough = bad >= tonumber(ARGV[6]) and bad >= 4 * good
if failed == 0 or not (canary_failed or enough) then return {now, 'open'} end
close_until_probed(KEYS[1], 'down', ARGV[8], ARGV[9], tonumber(ARGV[10]), tonumber(ARGV[11]))
return {now, 'closed'}
