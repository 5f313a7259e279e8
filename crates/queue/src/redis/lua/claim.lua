-- Claims: by name for expiry, otherwise in turn and within the slots of each site.

-- What this call claims, a list of { queue, tids }; and what is written once at its end: slots with
-- their site, tasks charged to the rate of a site with that site, queues with nothing left in them.
local named, granted, taken_slots, charged, emptied = {}, {}, {}, {}, {}

-- `exp` holds mid -> time * 2 + (1 when found expired).
local function put_off_if_expired(mid, ms)
  local score = tonumber(call('ZSCORE', P .. 'exp', mid) or 0)
  if score > 0 and (score % 2 == 1 or score / 2 <= now) then
    call('ZADD', P .. 'exp', (now + ms) * 2 + 1, mid)
  end
end

-- Held mail expires as any other, unless the queue is to keep it: then it is not looked at again for an
-- hour.
local function take_held_to_expire(handle)
  if call('HGET', P .. 'lim', 'held') ~= 'keep' then return call('ZREM', P .. 'hold', handle) == 1 end
  if call('ZSCORE', P .. 'hold', handle) then put_off_if_expired(message_of(handle), 3600000) end
  return false
end

-- Only where it waits, or is held. No slot and no turn, so that mail which cannot be claimed still
-- expires.
local function claim_by_name(handle, withheld)
  local tid, q = parts_of(handle)
  if withheld[tid] then return end
  if call('ZREM', P .. 'q:' .. q, tid) == 0 and not take_held_to_expire(handle) then return end
  put_off_if_expired(message_of(tid), 30000)
  named[#named + 1] = { q, { tid } }
end

local function promote()
  local found = call('ZRANGE', P .. 'wake', '-inf', now_text, 'BYSCORE', 'LIMIT', 0, 64)
  if #found == 0 then return end
  call('ZREM', P .. 'wake', unpack(found))
  local due, tenants, sites, others = {}, {}, {}, {}
  local function look_at_others()
    for _, member in ipairs(others) do
      if string.sub(member, 1, 1) == '!' then
        look_at_suspension(string.sub(member, 2))
      else
        unblock(member, 64)
      end
    end
  end
  for _, member in ipairs(found) do
    -- Other wake-ups are of a site, where some wait for its tokens, and of a suspension.
    if string.find(member, '|', 1, true) then
      due[#due + 1] = member
      sites[#sites + 1] = site_of(member)
    else
      others[#others + 1] = member
    end
  end
  if #due == 0 then return look_at_others() end
  local blocked = any_blocked(sites)
  for k, q in ipairs(due) do
    if blocked and call('ZREM', P .. 'blk:' .. sites[k], q) == 1 then forget_unblocked(sites[k]) end
    local tenant = tenant_of(q)
    tenants[tenant] = tenants[tenant] or {}
    table.insert(tenants[tenant], q)
  end
  load_used(sites)
  for tenant, queues in pairs(tenants) do activate(tenant, queues) end
  look_at_others()
end

-- The tenants this call can reach, read when the first is visited, written back by `save_roster`.
-- Of each: name, vt; its queues in order and the next of them, read when it is first visited; which
-- were served or have left.
local roster, reach
local function load_roster()
  roster = {}
  local view = call('ZRANGE', P .. 'ten', 0, reach, 'WITHSCORES')
  for k = 1, #view, 2 do
    roster[#roster + 1] = { name = view[k], vt = tonumber(view[k + 1]), vt_before = tonumber(view[k + 1]) }
  end
end

local function open_queues(tenant)
  tenant.queues = call('ZRANGE', P .. 'act:' .. tenant.name, 0, reach)
  -- Visits never come to the end of a view that was cut.
  tenant.cut = #tenant.queues > reach
  tenant.next, tenant.served, tenant.gone = 1, {}, {}
  tenant.left = #tenant.queues == 0
end

-- Least virtual time, then name; nil when no tenant has an active queue.
local function next_tenant()
  if not roster then load_roster() end
  local best
  for _, tenant in ipairs(roster) do
    if not tenant.left and (not best or tenant.vt < best.vt
        or (tenant.vt == best.vt and tenant.name < best.name)) then
      best = tenant
    end
  end
  if best and not best.queues then
    open_queues(best)
    if best.left then return next_tenant() end
  end
  return best
end

local function stays_active(tenant, q)
  seq = seq + 1
  tenant.queues[#tenant.queues + 1] = q
  tenant.served[#tenant.served + 1] = seq
  tenant.served[#tenant.served + 1] = q
end

local function leaves(tenant, q)
  tenant.gone[#tenant.gone + 1] = q
  tenant.left = tenant.next > #tenant.queues and not tenant.cut
end

local function save_roster()
  for _, tenant in ipairs(roster or {}) do
    if tenant.queues then
      local active = P .. 'act:' .. tenant.name
      if #tenant.served > 0 then call('ZADD', active, unpack(tenant.served)) end
      if #tenant.gone > 0 then call('ZREM', active, unpack(tenant.gone)) end
      if tenant.left then
        call('ZREM', P .. 'ten', tenant.name)
        if tenant.vt > V then call('HSET', P .. 'st', 'f:' .. tenant.name, tenant.vt) end
      elseif tenant.vt ~= tenant.vt_before then
        call('ZADD', P .. 'ten', tenant.vt, tenant.name)
      end
    end
  end
  roster = nil
end

-- The first count + 1 of a queue: tids that are due for this caller, how many due ones it must not
-- be given because a transaction of its process has them open, when the first of the others is due
-- (nil where the view ends before), and whether the view ends before the due ones do.
local function look(q, count, withheld)
  local view = call('ZRANGE', P .. 'q:' .. q, 0, count, 'WITHSCORES')
  local tids, kept = {}, 0
  for k = 1, #view, 2 do
    local due = tonumber(view[k + 1])
    if due > now then return tids, kept, due, false end
    if withheld[view[k]] then
      kept = kept + 1
    else
      tids[#tids + 1] = view[k]
    end
  end
  return tids, kept, nil, #view == 2 * (count + 1)
end

local function count_due(q, withheld)
  local ready = call('ZCOUNT', P .. 'q:' .. q, '-inf', now_text)
  for tid in pairs(withheld) do
    local due = call('ZSCORE', P .. 'q:' .. q, tid)
    if due and tonumber(due) <= now then ready = ready - 1 end
  end
  return ready
end

-- Of tasks about to be granted together: how many stand before the first that may be what ends its
-- owners. Such a one is granted alone.
local function before_suspect(tids)
  if suspects and call('EXISTS', P .. 'rcl') == 0 then
    call('HDEL', P .. 'st', 'sus')
    suspects = nil
  end
  if not suspects then return #tids end
  local reclaims = call('HMGET', P .. 'rcl', unpack(tids))
  for k = 1, #tids do
    if tonumber(reclaims[k] or 0) >= 3 then return math.max(1, k - 1) end
  end
  return #tids
end

-- A queue that is not active any more has a cause to be looked at again, or nothing in it.
local function park(q, kept, later)
  if kept > 0 then call('ZADD', P .. 'wake', 'LT', now + 1000, q) end
  if later then
    call('ZADD', P .. 'wake', 'LT', later, q)
  elseif kept == 0 then
    emptied[#emptied + 1] = q
  end
end

-- One visit: the tenant with the least virtual time, its least recently served queue. Grants or
-- parks the queue; false when no tenant has an active queue. Due comes before slot: a queue with
-- nothing due never waits for one.
local function visit(per_grant, withheld, withheld_count)
  local tenant = next_tenant()
  if not tenant then return false end
  local q = tenant.queues[tenant.next]
  tenant.next = tenant.next + 1
  local site = site_of(q)
  local tids, kept, later, more = look(q, withheld_count + 8, withheld)
  if #tids == 0 then
    leaves(tenant, q)
    park(q, kept, later)
    if any_blocked({ site }) then
      save_roster()
      unblock(site, 1)
    end
    return true
  end
  local scope = suspension_of(q)
  if scope then
    leaves(tenant, q)
    call('ZADD', P .. 'pk:' .. scope, 0, q)
    call('ZADD', P .. 'wake', 'LT', now + safety_ms, q)
    if any_blocked({ site }) then
      save_roster()
      unblock(site, 1)
    end
    return true
  end
  local free, rate = limit_of(site) - used_of(site), rate_of(site)
  local tokens = rate and free > 0 and tokens_of(site, rate) or math.huge
  if free <= 0 or tokens == 0 then
    leaves(tenant, q)
    if tokens == 0 then wake_at_rate(site, rate) end
    call('ZADD', P .. 'blk:' .. site, tenant.vt, q)
    call('SADD', P .. 'bs', site)
    call('ZADD', P .. 'wake', 'LT', now + safety_ms, q)
    return true
  end
  -- Few tasks spread over the free slots.
  local ready = more and count_due(q, withheld) or #tids
  local count = math.min(per_grant, math.ceil(ready / free), tokens)
  if count > #tids then tids = look(q, withheld_count + count - 1, withheld) end
  for k = #tids, count + 1, -1 do tids[k] = nil end
  count = before_suspect(tids)
  for k = #tids, count + 1, -1 do tids[k] = nil end
  call('ZREM', P .. 'q:' .. q, unpack(tids))
  used[site] = used[site] + 1
  taken_slots[#taken_slots + 1] = lane .. '.' .. ARGV[3] .. '.' .. #granted
  taken_slots[#taken_slots + 1] = site
  granted[#granted + 1] = { q, tids, rate }
  if rate then
    charge(site, rate, count)
    for _, tid in ipairs(tids) do
      charged[#charged + 1] = tid
      charged[#charged + 1] = site
    end
  end
  V, turn_changed = tenant.vt, true
  tenant.vt = tenant.vt + cost_of(tenant.name, count)
  if ready > count then
    stays_active(tenant, q)
  else
    if more then
      local _
      _, kept, later = look(q, withheld_count, withheld)
    end
    leaves(tenant, q)
    park(q, kept, later)
  end
  return true
end

local function claim(max, per_grant, withheld, withheld_count)
  load_turn()
  promote()
  reach = 64 + max
  for _ = 1, reach do
    if #granted == max or not visit(per_grant, withheld, withheld_count) then break end
  end
  save_roster()
  if #taken_slots > 0 then call('HSET', P .. 'cw:' .. wid, unpack(taken_slots)) end
  for from = 1, #charged, 2000 do
    call('HSET', P .. 'cs:' .. wid, unpack(charged, from, math.min(from + 1999, #charged)))
  end
  if #emptied > 0 then call('ZREM', P .. 'qs', unpack(emptied)) end
end

-- Puts what was taken into the claim set and describes it: tid, ms until the message expires, number
-- of state fields and values, these.
local function hand_out(claims_made, with_counts, reply)
  local members, mids, states, deadline = {}, {}, {}, (now + claim_ms) * 4
  for _, made in ipairs(claims_made) do
    local score = text(deadline + (made[3] and 2 or 0))
    for _, tid in ipairs(made[2]) do
      members[#members + 1] = score
      members[#members + 1] = tid .. '|' .. made[1]
      mids[#mids + 1] = message_of(tid)
      states[#states + 1] = P .. 't:' .. tid
    end
  end
  local expiry, has_state = {}, {}
  for from = 1, #mids, 1000 do
    local last = math.min(from + 999, #mids)
    call('ZADD', claims, unpack(members, 2 * from - 1, 2 * last))
    local scores = call('ZMSCORE', P .. 'exp', unpack(mids, from, last))
    local any = call('EXISTS', unpack(states, from, last)) > 0
    for k = from, last do
      local score = scores[k - from + 1]
      if not score then
        -- In a damaged store. It is not expired for that; it gets what is usual anew (RFC 5321
        -- §4.5.4.1: at least 4 to 5 days).
        score = text((now + 432000000) * 2)
        call('ZADD', P .. 'exp', score, mids[k])
      end
      expiry[k] = tonumber(score)
      has_state[k] = any
    end
  end
  local k = 0
  for _, made in ipairs(claims_made) do
    reply[#reply + 1] = made[1]
    if with_counts then reply[#reply + 1] = #made[2] end
    for _, tid in ipairs(made[2]) do
      k = k + 1
      reply[#reply + 1] = tid
      reply[#reply + 1] = expiry[k] % 2 == 0 and math.max(0, expiry[k] / 2 - now) or 0
      local state = has_state[k] and call('HGETALL', states[k]) or {}
      reply[#reply + 1] = #state
      for _, value in ipairs(state) do reply[#reply + 1] = value end
    end
  end
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
