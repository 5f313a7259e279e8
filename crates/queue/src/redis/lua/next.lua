-- Settle, release, claim: one step.
-- ARGV: wid lane n claim_ms safety_ms, count delivered handles..., count settlements...,
-- positions of both, count slots..., 0 | 1 grants tasks_per_grant, count withheld tids..., count handles by name...
-- Reply: 0, count stale..., count named (qid and task)..., count grants (qid, count of tasks,
-- tasks)..., when next, ms; or 1 refused, 2 reaped, 3 expired.
local last = call('HGET', P .. 'ln:' .. wid, lane)
if n <= tonumber(last or 0) then return { 1 } end
local expiry = call('ZSCORE', P .. 'wk', wid)
if not expiry then return { 2 } end
if tonumber(expiry) <= now then return { 3 } end

local reply, i, changed = { 0 }, 6, false

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
if #stale > 0 then
  local positions = {}
  for position in string.gmatch(ARGV[i], '%d+') do positions[#positions + 1] = tonumber(position) end
  for _, k in ipairs(stale) do reply[#reply + 1] = positions[k] end
end
i = i + 1

local slots = tonumber(ARGV[i])
for k = i + 1, i + slots do free_slot(wid, ARGV[k]) end
i = i + 1 + slots
changed = delivered + others + slots > 0

local named, grants, next_kind, next_ms = 0, 0, 2, 0
local named_at = #reply + 1
reply[named_at] = 0
if ARGV[i] == '1' then
  local max, per_grant = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local withheld = {}
  local count = tonumber(ARGV[i + 3])
  for k = i + 4, i + 3 + count do withheld[ARGV[k]] = true end
  i = i + 4 + count
  for k = 1, tonumber(ARGV[i]) do
    if claim_by_name(ARGV[i + k], withheld, reply) then named = named + 1 end
  end
  reply[named_at] = named

  local grants_at = #reply + 1
  reply[grants_at] = 0
  load_turn()
  promote()
  local visits = 64 + max
  while grants < max and visits > 0 and call('EXISTS', P .. 'ten') == 1 do
    if visit(grants, per_grant, withheld, reply) then grants = grants + 1 end
    visits = visits - 1
  end
  reply[grants_at] = grants
  next_kind, next_ms = when_next()
else
  reply[#reply + 1] = 0
end
save_turn()
reply[#reply + 1] = next_kind
reply[#reply + 1] = next_ms

-- An idle poll leaves nothing behind, so it costs no write: repeated, it asks again.
if changed or named > 0 or grants > 0 then
  call('HSET', P .. 'ln:' .. wid, lane, n, lane .. 'r', cmsgpack.pack(reply))
end
return reply
