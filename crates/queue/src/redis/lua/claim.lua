-- Claims: by name for expiry, otherwise in turn and within the slots of each site.

-- Puts tasks that this script took from queue `q` into the claim set and describes them in `reply`:
-- tid, ms until the message expires, number of state fields and values, these.
-- `exp` holds mid -> time * 2 + (1 when found expired).
local function hand_out(q, tids, reply)
  local members, mids = {}, {}
  for k, tid in ipairs(tids) do
    members[2 * k - 1] = (now + claim_ms) * 2
    members[2 * k] = tid .. '|' .. q
    mids[k] = message_of(tid)
  end
  call('ZADD', P .. 'c:' .. wid, unpack(members))
  local expiry = call('ZMSCORE', P .. 'exp', unpack(mids))
  for k, tid in ipairs(tids) do
    local expires_in, score = 0, tonumber(expiry[k] or 1)
    if score % 2 == 0 then expires_in = math.max(0, score / 2 - now) end
    local state = call('HGETALL', P .. 't:' .. tid)
    reply[#reply + 1] = tid
    reply[#reply + 1] = expires_in
    reply[#reply + 1] = #state
    for _, value in ipairs(state) do reply[#reply + 1] = value end
  end
end

-- Only where it waits. No slot and no turn, so that mail which cannot be claimed still expires.
local function claim_by_name(handle, withheld, reply)
  local tid, q = parts_of(handle)
  if withheld[tid] or call('ZREM', P .. 'q:' .. q, tid) == 0 then return false end
  local mid = message_of(tid)
  local score = tonumber(call('ZSCORE', P .. 'exp', mid) or 0)
  if score > 0 and (score % 2 == 1 or score / 2 <= now) then
    call('ZADD', P .. 'exp', (now + 30000) * 2 + 1, mid)
  end
  reply[#reply + 1] = q
  hand_out(q, { tid }, reply)
  return true
end

local function promote()
  local due = call('ZRANGE', P .. 'wake', '-inf', now, 'BYSCORE', 'LIMIT', 0, 64)
  if #due == 0 then return end
  call('ZREM', P .. 'wake', unpack(due))
  for _, q in ipairs(due) do
    call('ZREM', P .. 'blk:' .. site_of(q), q)
    activate(q)
  end
end

-- How many tasks of `q` are due for this caller, and how many due ones it must not be given
-- because a transaction of this process has them open.
local function due_of(q, withheld)
  local ready, kept = call('ZCOUNT', P .. 'q:' .. q, '-inf', now), 0
  for tid in pairs(withheld) do
    local due = call('ZSCORE', P .. 'q:' .. q, tid)
    if due and tonumber(due) <= now then kept = kept + 1 end
  end
  return ready - kept, kept
end

-- A queue that is not active any more has a cause to be looked at again, or nothing in it.
local function park(q, kept)
  if kept > 0 then
    call('ZADD', P .. 'wake', 'LT', now + 1000, q)
  end
  local first = call('ZRANGE', P .. 'q:' .. q, '(' .. now, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
  if first[1] then
    call('ZADD', P .. 'wake', 'LT', first[2], q)
  elseif kept == 0 then
    call('SREM', P .. 'qs', q)
  end
end

local function take(q, count, withheld, kept)
  local tids = {}
  for _, tid in ipairs(call('ZRANGE', P .. 'q:' .. q, '-inf', now, 'BYSCORE', 'LIMIT', 0, count + kept)) do
    if #tids < count and not withheld[tid] then tids[#tids + 1] = tid end
  end
  call('ZREM', P .. 'q:' .. q, unpack(tids))
  return tids
end

-- One visit: the tenant with the least virtual time, its least recently served queue. Appends a
-- grant to `reply` and returns true, or parks the queue. Due comes before slot: a queue with
-- nothing due never waits for one.
local function visit(grants, per_grant, withheld, reply)
  local first = call('ZRANGE', P .. 'ten', 0, 0, 'WITHSCORES')
  local tenant, vt = first[1], tonumber(first[2])
  local q = call('ZRANGE', P .. 'act:' .. tenant, 0, 0)[1]
  local site = site_of(q)
  local ready, kept = due_of(q, withheld)
  if ready <= 0 then
    deactivate(q, tenant, vt)
    park(q, kept)
    unblock_one(site)
    return false
  end
  local free = limit_of(site) - used_of(site)
  if free <= 0 then
    deactivate(q, tenant, vt)
    call('ZADD', P .. 'blk:' .. site, vt, q)
    call('ZADD', P .. 'wake', 'LT', now + safety_ms, q)
    return false
  end
  -- Few tasks spread over the free slots.
  local tids = take(q, math.min(per_grant, math.ceil(ready / free)), withheld, kept)
  call('HINCRBY', P .. 'ct', site, 1)
  call('HSET', P .. 'cw:' .. wid, lane .. '.' .. ARGV[3] .. '.' .. grants, site)
  V, turn_changed = vt, true
  if ready > #tids then
    seq = seq + 1
    call('ZADD', P .. 'act:' .. tenant, seq, q)
    call('ZADD', P .. 'ten', vt + #tids, tenant)
  else
    deactivate(q, tenant, vt + #tids)
    park(q, kept)
  end
  reply[#reply + 1] = q
  reply[#reply + 1] = #tids
  hand_out(q, tids, reply)
  return true
end

-- 0 more, 1 sleep, 2 empty; ms.
local function when_next()
  if call('EXISTS', P .. 'ten') == 1 then return 0, 0 end
  local first = call('ZRANGE', P .. 'wake', 0, 0, 'WITHSCORES')
  if not first[1] then return 2, 0 end
  local ms = tonumber(first[2]) - now
  if ms <= 0 then return 0, 0 end
  return 1, ms
end
