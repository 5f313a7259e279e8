-- Renews a lease and takes back what reaped workers and overdue claims held.
-- ARGV: wid lease_ms beat_ms, newest schema the program reads. Reply: 0 reaped; 2, schema in force,
-- when that is newer; or 1, late, claims taken back, more, ms to the earliest foreign expiry or -1,
-- tids of those that are held from now on.
local wid, lease, beat = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
-- Whoever was connected before the flip and does not read what is written now loses its lease.
local schema = tonumber(call('HGET', P .. 'meta', 'schema') or 0)
if schema > tonumber(ARGV[4]) then return { 2, schema } end
local expiry = tonumber(call('ZSCORE', P .. 'wk', wid) or 0)
if expiry == 0 then return { 0 } end
local since = tonumber(call('HGET', P .. 'wks', wid) or now)
if now - (expiry - lease) > beat * 1.5 or since > now then
  since = now
  call('HSET', P .. 'wks', wid, since)
end
call('ZADD', P .. 'wk', 'XX', now + lease, wid)
-- Leases of before the clock went back end too late, if their owners have died. Two of them: somebody
-- else's may be longer.
for _, other in ipairs(call('ZRANGE', P .. 'wk', '(' .. text(now + 2 * lease), '+inf', 'BYSCORE')) do
  call('ZADD', P .. 'wk', 'XX', now + lease, other)
end

-- What lies behind the clock is as if it had never been; some of it at a time.
local st = call('HMGET', P .. 'st', 'g', 'audit')
local old = call('HSCAN', P .. 'g', st[1] or 0, 'COUNT', 200)
for k = 1, #old[2], 2 do
  if tonumber(string.match(old[2][k + 1], '^%d+')) < now - 1 then call('HDEL', P .. 'g', old[2][k]) end
end
if old[1] ~= '0' then call('HSET', P .. 'st', 'g', old[1]) else call('HDEL', P .. 'st', 'g') end

-- Once a minute the slots in use are counted anew, by those who have them. Where that is another number,
-- in a damaged store, it is put right, and whoever waited for it goes.
local function audit()
  local counted, wrong = {}, {}
  for _, member in ipairs(call('SMEMBERS', P .. 'ws')) do
    for _, site in ipairs(call('HVALS', P .. 'cw:' .. member)) do
      counted[site] = (counted[site] or 0) + 1
    end
  end
  local known = call('HGETALL', P .. 'ct')
  for k = 1, #known, 2 do counted[known[k]] = counted[known[k]] or 0 end
  for site, count in pairs(counted) do
    if used_of(site) ~= count then
      used[site] = count
      wrong[#wrong + 1] = site
    end
  end
  table.sort(wrong)
  for _, site in ipairs(wrong) do unblock(site, math.huge) end
  save_turn()
end
local audited = tonumber(st[2] or 0)
if now - audited >= 60000 or audited > now then
  call('HSET', P .. 'st', 'audit', now)
  audit()
end

local budget, reaped, more, held = 500, 0, 0, {}

-- One more owner has begun a task and not settled it. After 3 of them it is granted alone, after 6 it is
-- held: it may be what ends them.
local function suspect(tid, state)
  local reclaims = call('HINCRBY', P .. 'rcl', tid, 1)
  if reclaims >= 3 then call('HSET', P .. 'st', 'sus', 1) end
  if reclaims < 6 or state.hold or state.dropped then return end
  state.hold = 'it was begun ' .. reclaims .. ' times and never settled'
  call('HSET', P .. 't:' .. tid, 'h', state.hold)
  held[#held + 1] = tid
end

local function take_back(owner, handles)
  local keys = {}
  for k = 1, #handles, 2 do keys[#keys + 1] = P .. 't:' .. string.match(handles[k], '^[^|]*') end
  local any = #keys > 0 and call('EXISTS', unpack(keys)) > 0
  for k = 1, #handles, 2 do
    local handle, score = handles[k], handles[k + 1]
    local begun = is_begun(score)
    local tid, q = parts_of(handle)
    local asked = any and call('HMGET', P .. 't:' .. tid, 'h', 'x') or {}
    local state = { hold = asked[1], dropped = asked[2] }
    call('ZREM', P .. 'c:' .. owner, handle)
    return_token(owner, tid, score, not begun)
    if begun then suspect(tid, state) end
    come_back(tid, q, begun, now, state)
    reaped = reaped + 1
    budget = budget - 1
  end
end

-- One that owns nothing any more is forgotten.
local function drain(owner)
  take_back(owner, call('ZRANGE', P .. 'c:' .. owner, 0, budget - 1, 'WITHSCORES'))
  if budget == 0 then return end
  local slots = call('HKEYS', P .. 'cw:' .. owner)
  table.sort(slots)
  for k = #slots, budget + 1, -1 do slots[k] = nil end
  release(owner, slots)
  budget = budget - #slots
  if call('EXISTS', P .. 'cw:' .. owner) == 1 then return end
  call('SREM', P .. 'ws', owner)
  call('UNLINK', P .. 'ln:' .. owner, P .. 'cs:' .. owner)
end

-- Only who has held its own lease for a whole lease without a gap may reap: after an outage
-- everybody renews first and nobody's mail is taken away.
if now - since >= lease then
  local victims = call('ZRANGE', P .. 'wk', '-inf', now, 'BYSCORE', 'LIMIT', 0, 16)
  if #victims == 16 then more = 1 end
  for _, victim in ipairs(victims) do
    call('ZREM', P .. 'wk', victim)
    call('HDEL', P .. 'wks', victim)
  end
  local members, living = call('SMEMBERS', P .. 'ws'), {}
  table.sort(members)
  for _, member in ipairs(members) do
    if call('ZSCORE', P .. 'wk', member) then
      living[#living + 1] = member
    elseif budget > 0 then
      drain(member)
    end
  end
  for _, member in ipairs(living) do
    if budget > 0 then
      take_back(member, call('ZRANGE', P .. 'c:' .. member, '-inf', now * 4 + 3, 'BYSCORE',
        'LIMIT', 0, budget, 'WITHSCORES'))
    end
  end
  if budget == 0 then more = 1 end
  save_turn()
end

local foreign = -1
local first = call('ZRANGE', P .. 'wk', 0, 1, 'WITHSCORES')
for k = 1, #first, 2 do
  if first[k] ~= wid then
    -- Before its own gate opens there is nothing to take.
    foreign = math.max(0, tonumber(first[k + 1]) - now, since + lease - now)
    break
  end
end
return { 1, expiry <= now and 1 or 0, reaped, more, foreign, unpack(held) }
