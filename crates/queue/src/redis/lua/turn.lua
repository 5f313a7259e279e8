-- Whose turn it is: tenants by virtual time, a tenant's eligible queues by last-served sequence,
-- queues that wait for a slot; and the slots in use. `V` is the virtual time of the last grant, `seq`
-- its counter. What is read is read once; `save_turn` writes what has changed.
local V, seq, turn_changed
local function load_turn()
  if not V then
    local st = call('HMGET', P .. 'st', 'V', 'seq')
    V, seq = tonumber(st[1] or 0), tonumber(st[2] or 0)
  end
end

-- Limits of sites and weights of tenants, by their fields.
local limits, default_limit, has_limits = {}, nil, nil
local function limit(field, default)
  if not default_limit then
    default_limit = tonumber(call('HGET', P .. 'lim', 'default') or 20)
    -- More than the generation and the default.
    has_limits = call('HLEN', P .. 'lim') > 2
  end
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

local function save_turn()
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

-- `slots` slots of `site` have become free: one blocked queue goes for each.
local function unblock(site, slots)
  local blocked = call('ZRANGE', P .. 'blk:' .. site, 0, slots - 1)
  if #blocked == 0 then return end
  for k = 1, math.min(#blocked, limit_of(site) - used_of(site)) do
    call('ZREM', P .. 'blk:' .. site, blocked[k])
    call('ZREM', P .. 'wake', blocked[k])
    activate(tenant_of(blocked[k]), { blocked[k] })
  end
  forget_unblocked(site)
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
