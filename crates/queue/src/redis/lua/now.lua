-- First part of every script: the prefix, the server's clock in ms, names taken apart.
local P, call = KEYS[1], redis.call
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- What connection slots are counted by: the route, last part of tenant|class|egress|route.
local function site_of(q) return string.match(q, '[^|]*$') end
local function tenant_of(q) return string.match(q, '^[^|]*') end
local function message_of(tid) return string.match(tid, '^[^.]*') end

-- Queue `q` has got a task due at `due`. A blocked queue needs no wake-up of its own: the next free
-- slot finds it, and its safety wake is set.
local function schedule(q, due)
  call('SADD', P .. 'qs', q)
  if not call('ZSCORE', P .. 'blk:' .. site_of(q), q) then
    call('ZADD', P .. 'wake', 'LT', due, q)
  end
end
