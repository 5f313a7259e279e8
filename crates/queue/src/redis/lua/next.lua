-- Settle, release, claim: one step.
-- ARGV: wid lane n claim_ms safety_ms, count delivered handles..., count settlements...,
-- positions of both, count slots..., 0 | 1 grants tasks_per_grant, count withheld tids..., count handles by name...,
-- nothing | entries of the journal to keep, outcomes for it...
-- Reply: 0, count stale..., count named (qid and task)..., count grants (qid, count of tasks,
-- tasks)..., when next, ms; or 1 refused, 2 reaped, 3 expired.
local last = call('HGET', P .. 'ln:' .. wid, lane)
if n <= tonumber(last or 0) then return { 1 } end
local expiry = call('ZSCORE', P .. 'wk', wid)
if not expiry then return { 2 } end
if tonumber(expiry) <= now then return { 3 } end

local reply, i = { 0 }, 6

local stale = {}
local delivered = tonumber(ARGV[i])
settle_delivered(i + 1, delivered, stale)
i = i + 1 + delivered
local others = tonumber(ARGV[i])
i = i + 1
for k = 1, others do
  local held
  held, i = settle(i)
  if not held then stale[#stale + 1] = delivered + k end
end
reply[2] = #stale
local stale_positions = {}
if #stale > 0 then
  local positions = {}
  for position in string.gmatch(ARGV[i], '%d+') do positions[#positions + 1] = tonumber(position) end
  for k, index in ipairs(stale) do stale_positions[k] = positions[index] end
  for _, position in ipairs(stale_positions) do reply[#reply + 1] = position end
end
i = i + 1

local slots = tonumber(ARGV[i])
release(wid, { unpack(ARGV, i + 1, i + slots) })
i = i + 1 + slots
local changed = delivered + others + slots > 0

local next_kind, next_ms = 2, 0
if ARGV[i] == '1' then
  local max, per_grant = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local withheld = {}
  local count = tonumber(ARGV[i + 3])
  for k = i + 4, i + 3 + count do withheld[ARGV[k]] = true end
  i = i + 4 + count
  local by_name = tonumber(ARGV[i])
  for k = i + 1, i + by_name do claim_by_name(ARGV[k], withheld) end
  i = i + by_name
  claim(max, per_grant, withheld, count)
  next_kind, next_ms = when_next()
end
if ARGV[i + 1] then add_to_journal(i + 1, stale_positions) end
save_turn()
reply[#reply + 1] = #named
hand_out(named, false, reply)
reply[#reply + 1] = #granted
hand_out(granted, true, reply)
reply[#reply + 1] = next_kind
reply[#reply + 1] = next_ms

-- An idle poll leaves nothing behind, so it costs no write: repeated, it asks again.
if changed or #named > 0 or #granted > 0 then
  call('HSET', P .. 'ln:' .. wid, lane, n, lane .. 'r', cmsgpack.pack(reply))
end
return reply
