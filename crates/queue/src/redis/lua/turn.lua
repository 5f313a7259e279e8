-- Whose turn it is: tenants by virtual time, a tenant's eligible queues by last-served sequence,
-- queues that wait for a slot. `V` is the virtual time of the last grant, `seq` its counter; both
-- are read once and written back by `save_turn`.
local V, seq, turn_changed
local function load_turn()
  if not V then
    local st = call('HMGET', P .. 'st', 'V', 'seq')
    V, seq = tonumber(st[1] or 0), tonumber(st[2] or 0)
  end
end
local function save_turn()
  if turn_changed then call('HSET', P .. 'st', 'V', V, 'seq', seq) end
end

local limits = {}
local function limit_of(site)
  local limit = limits[site]
  if not limit then
    local lim = call('HMGET', P .. 'lim', 'site:' .. site, 'default')
    limit = tonumber(lim[1] or lim[2] or 20)
    limits[site] = limit
  end
  return limit
end
local function used_of(site) return tonumber(call('HGET', P .. 'ct', site) or 0) end

-- A queue enters at the current sequence, not at 0, or it would always go before a backlog; a
-- tenant that comes back enters at the later of V and its last finish, so that leaving gains
-- nothing.
local function activate(q)
  load_turn()
  local tenant = tenant_of(q)
  if call('ZADD', P .. 'act:' .. tenant, 'NX', seq, q) == 1
      and not call('ZSCORE', P .. 'ten', tenant) then
    local finish = call('HGET', P .. 'st', 'f:' .. tenant)
    if finish then call('HDEL', P .. 'st', 'f:' .. tenant) end
    call('ZADD', P .. 'ten', math.max(V, tonumber(finish or 0)), tenant)
  end
end

-- `vt`: the tenant's virtual time, what the queue was just given included.
local function deactivate(q, tenant, vt)
  local active = P .. 'act:' .. tenant
  call('ZREM', active, q)
  if call('EXISTS', active) == 0 then
    call('ZREM', P .. 'ten', tenant)
    if vt > V then call('HSET', P .. 'st', 'f:' .. tenant, vt) end
  else
    call('ZADD', P .. 'ten', vt, tenant)
  end
end

-- One slot of `site` is free: exactly one blocked queue goes for it.
local function unblock_one(site)
  local q = call('ZRANGE', P .. 'blk:' .. site, 0, 0)[1]
  if not q or used_of(site) >= limit_of(site) then return end
  call('ZREM', P .. 'blk:' .. site, q)
  call('ZREM', P .. 'wake', q)
  activate(q)
end

-- A slot is a member: the count falls only for whoever removed it, so a repeated release frees
-- nothing.
local function free_slot(wid, slot)
  local site = call('HGET', P .. 'cw:' .. wid, slot)
  if not site then return end
  call('HDEL', P .. 'cw:' .. wid, slot)
  if call('HINCRBY', P .. 'ct', site, -1) <= 0 then call('HDEL', P .. 'ct', site) end
  unblock_one(site)
end
