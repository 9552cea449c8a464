-- Read the entries of the stream that are about one root, or whose data hold some text: thousands are looked at here,
-- and few travel. Changes nothing.
--
-- KEYS[1] stream of events
-- ARGV[1] first id, "(" in front excludes it   ARGV[2] last id   ARGV[3] how many are looked at
-- ARGV[4] root, or ""                          ARGV[5] text that the data hold, or ""
-- Returns {server time in ms, how many were looked at, id of the last one or "", id, event, root, data, ...}.
local entries = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
local found = {now, #entries, #entries > 0 and entries[#entries][1] or ''}
for _, entry in ipairs(entries) do
  local fields = {}
  for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
  local root, data = fields.root or '', fields.data or '{}'
  if (ARGV[4] == '' or root == ARGV[4]) and (ARGV[5] == '' or data:find(ARGV[5], 1, true)) then
    for _, each in ipairs({entry[1], fields.event or '', root, data}) do found[#found + 1] = each end
  end
end
return found
