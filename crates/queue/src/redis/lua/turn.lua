-- Whose turn it is: tenants by virtual time, a tenant's eligible queues by last-served sequence,
-- queues that wait for a slot; and the slots in use. `V` is the virtual time of the last grant, `seq`
-- its counter. What is read is read once; `save_turn` writes what has changed.
-- `suspects`: some task may have reclaims. `suspended`: some queues are.
local V, seq, turn_changed, suspects, suspended
local function load_turn()
  if not V then
    local st = call('HMGET', P .. 'st', 'V', 'seq', 'sus', 'sn')
    V, seq, suspects = tonumber(st[1] or 0), tonumber(st[2] or 0), st[3]
    suspended = tonumber(st[4] or 0) > 0
  end
end

-- Limits of sites and weights of tenants, by their fields; the rate of every site, and whether some
-- have their own.
local limits, default_limit, has_limits, default_rate, has_rates = {}, nil, nil, nil, nil
local function load_limits()
  if default_limit then return end
  local lim = call('HMGET', P .. 'lim', 'default', 'rate', 'rates')
  default_limit, default_rate, has_rates = tonumber(lim[1] or 20), lim[2], lim[3]
  -- More than the generation and the default.
  has_limits = call('HLEN', P .. 'lim') > 2
end
local function limit(field, default)
  load_limits()
  default = default or default_limit
  if has_limits and not limits[field] then
    limits[field] = tonumber(call('HGET', P .. 'lim', field) or default)
  end
  return limits[field] or default
end
local function limit_of(site) return limit('site:' .. site) end
-- What `count` tasks add to the virtual time of a tenant.
local function cost_of(tenant, count) return math.floor(count * 10000 / limit('weight:' .. tenant, 1)) end

local used, used_before = {}, {}
local function load_used(sites)
  local counts = call('HMGET', P .. 'ct', unpack(sites))
  for k, site in ipairs(sites) do
    if not used[site] then
      used_before[site] = tonumber(counts[k] or 0)
      used[site] = used_before[site]
    end
  end
end
local function used_of(site)
  if not used[site] then load_used({ site }) end
  return used[site]
end

-- Rates are kept exactly. A site's theoretical arrival time says when its tokens would be full again: a
-- task is one interval, per / messages, later, and tasks may go while that is not more than `burst`
-- intervals ahead of the clock. It is in ms and parts of 1 / messages ms; what lies behind the clock by
-- less than its tick, a millisecond, is kept, or it would be lost each time.
local rates, arrivals, arrivals_changed = {}, {}, {}
local function rate_of(site)
  load_limits()
  if not default_rate and not has_rates then return nil end
  if rates[site] == nil then
    local written = has_rates and call('HGET', P .. 'lim', 'rate:' .. site) or default_rate
    local messages, per, burst = string.match(written or '', '^(%d+) (%d+) (%d+)$')
    rates[site] = messages and
      { messages = tonumber(messages), per = tonumber(per), burst = tonumber(burst) } or false
  end
  return rates[site] or nil
end

local function shift(rate, arrival, tasks)
  local parts = arrival.part + tasks * rate.per
  local ms = math.floor(parts / rate.messages)
  return { ms = arrival.ms + ms, part = parts - ms * rate.messages }
end

local function has_passed(arrival)
  return arrival.ms < now - 1 or (arrival.ms == now - 1 and arrival.part == 0)
end

-- No token was saved up beyond the burst, and none is more than two bursts away, wherever the clock
-- was; that is noted, or it would stay that far from a clock that goes on.
local function arrival_of(site, rate)
  if arrivals[site] then return arrivals[site] end
  local arrival = { ms = now, part = 0 }
  local ms, part = string.match(call('HGET', P .. 'g', site) or '', '^(%d+) (%d+)$')
  local stored = ms and { ms = tonumber(ms), part = tonumber(part) }
  if stored and not has_passed(stored) then
    local latest = shift(rate, arrival, 2 * rate.burst)
    arrival = stored
    -- Written under another rate, it may have other parts.
    arrival.part = math.min(arrival.part, rate.messages - 1)
    if arrival.ms > latest.ms or (arrival.ms == latest.ms and arrival.part > latest.part) then
      arrival, arrivals_changed[site] = latest, true
    end
  end
  arrivals[site] = arrival
  return arrival
end

-- How many tasks may go now.
local function tokens_of(site, rate)
  local arrival = arrival_of(site, rate)
  local parts = (now - arrival.ms) * rate.messages + rate.burst * rate.per - arrival.part
  return math.max(0, math.min(rate.burst, math.floor(parts / rate.per)))
end

-- Wakes the site when its next token is there. One wake for all that wait: who is first then is a
-- question of turn, not of who woke.
local function wake_at_rate(site, rate)
  local arrival = arrival_of(site, rate)
  local parts = rate.per - rate.burst * rate.per + arrival.part
  local first = arrival.ms + math.ceil(parts / rate.messages)
  call('ZADD', P .. 'wake', 'LT', text(math.max(now, first)), site)
end

-- Takes tokens, or gives some back when there are less than none.
local function charge(site, rate, tasks)
  local arrival = shift(rate, arrival_of(site, rate), tasks)
  arrivals_changed[site] = true
  arrivals[site] = has_passed(arrival) and { ms = now, part = 0 } or arrival
  if any_blocked({ site }) then wake_at_rate(site, rate) end
end

local function save_arrivals()
  for site in pairs(arrivals_changed) do
    local arrival = arrivals[site]
    call('HSET', P .. 'g', site, text(arrival.ms) .. ' ' .. text(arrival.part))
  end
  arrivals_changed = {}
end

local function save_turn()
  save_arrivals()
  if turn_changed then call('HSET', P .. 'st', 'V', V, 'seq', seq) end
  local set, gone = {}, {}
  for site, count in pairs(used) do
    if count > 0 and count ~= used_before[site] then
      set[#set + 1] = site
      set[#set + 1] = count
    elseif count <= 0 and used_before[site] > 0 then
      gone[#gone + 1] = site
    end
  end
  if #set > 0 then call('HSET', P .. 'ct', unpack(set)) end
  if #gone > 0 then call('HDEL', P .. 'ct', unpack(gone)) end
end

-- A tenant is in `ten` exactly while it has active queues. A queue enters at the current sequence,
-- not at 0, or it would always go before a backlog; a tenant that comes back enters at the later of
-- V and its last finish, so that leaving gains nothing.
local function activate(tenant, queues)
  load_turn()
  local members = {}
  for k, q in ipairs(queues) do
    members[2 * k - 1] = seq
    members[2 * k] = q
  end
  call('ZADD', P .. 'act:' .. tenant, 'NX', unpack(members))
  if not call('ZSCORE', P .. 'ten', tenant) then
    local finish = call('HGET', P .. 'st', 'f:' .. tenant)
    if finish then call('HDEL', P .. 'st', 'f:' .. tenant) end
    call('ZADD', P .. 'ten', math.max(V, tonumber(finish or 0)), tenant)
  end
end

-- `bs` lists the sites that have blocked queues.
local function forget_unblocked(site)
  if call('EXISTS', P .. 'blk:' .. site) == 0 then call('SREM', P .. 'bs', site) end
end

-- Lets up to `most` queues go that wait for `site`: one for each free slot and each token.
local function unblock(site, most)
  if not any_blocked({ site }) then return end
  local count, rate = math.min(most, limit_of(site) - used_of(site)), rate_of(site)
  if count <= 0 then return end
  if rate then
    count = math.min(count, tokens_of(site, rate))
    if count == 0 then return wake_at_rate(site, rate) end
  end
  for _, q in ipairs(call('ZRANGE', P .. 'blk:' .. site, 0, count - 1)) do
    call('ZREM', P .. 'blk:' .. site, q)
    call('ZREM', P .. 'wake', q)
    activate(tenant_of(q), { q })
  end
  forget_unblocked(site)
end

-- Whether the suspension of a scope stands, and until when, 0 for ever.
local ends_of = {}
local function stands(scope)
  if ends_of[scope] == nil then
    local known = call('HGET', P .. 'sus', scope)
    ends_of[scope] = known and tonumber(string.match(known, '^%d+')) or false
  end
  local ends = ends_of[scope]
  return ends and (ends == 0 or ends > now), ends
end

-- What keeps a queue back: the widest scope that does.
local function suspension_of(q)
  if not suspended then return nil end
  for _, scope in ipairs({ 'all', 'tenant:' .. tenant_of(q), 'site:' .. site_of(q) }) do
    if stands(scope) then return scope end
  end
end

-- The wake-up of a suspension: it may have ended, by its time or by somebody. Queues that it kept back
-- are looked at again.
local function look_at_suspension(scope)
  local in_force, ends = stands(scope)
  if in_force then
    if ends > 0 then call('ZADD', P .. 'wake', ends, '!' .. scope) end
    return
  end
  if ends then
    call('HDEL', P .. 'sus', scope)
    call('HSET', P .. 'st', 'sn', call('HLEN', P .. 'sus'))
  end
  local parked = call('ZRANGE', P .. 'pk:' .. scope, 0, 63)
  if #parked == 0 then return end
  call('ZREM', P .. 'pk:' .. scope, unpack(parked))
  if call('EXISTS', P .. 'pk:' .. scope) == 1 then call('ZADD', P .. 'wake', now, '!' .. scope) end
  local woken = {}
  for _, q in ipairs(parked) do
    if call('EXISTS', P .. 'q:' .. q) == 1 then woken[#woken + 1] = q end
  end
  if #woken > 0 then schedule(woken, now_text) end
end

-- A slot is a member: the count falls only for whoever removed it, so a repeated release frees
-- nothing.
local function release(owner, slots)
  if #slots == 0 then return end
  local sites = call('HMGET', P .. 'cw:' .. owner, unpack(slots))
  local gone, names, freed, seen = {}, {}, {}, {}
  for k, slot in ipairs(slots) do
    local site = sites[k]
    if site and not seen[slot] then
      seen[slot] = true
      gone[#gone + 1] = slot
      if not freed[site] then
        names[#names + 1] = site
        freed[site] = 0
      end
      freed[site] = freed[site] + 1
    end
  end
  if #gone == 0 then return end
  call('HDEL', P .. 'cw:' .. owner, unpack(gone))
  load_used(names)
  local blocked = any_blocked(names)
  for _, site in ipairs(names) do
    used[site] = used[site] - freed[site]
    if blocked then unblock(site, freed[site]) end
  end
end
