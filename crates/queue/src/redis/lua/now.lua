-- First part of every script: the prefix, the server's clock in ms, names taken apart.
local P, call = KEYS[1], redis.call
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- A time as an argument. Left to itself the server formats each number as a fraction, which costs
-- more than the command.
local function text(ms) return string.format('%d', ms) end
local now_text = text(now)

-- What connection slots are counted by: the route, last part of tenant|class|egress|route.
local function site_of(q) return string.match(q, '^.*|(.*)$') end
local function tenant_of(q) return string.match(q, '^[^|]*') end
local function message_of(tid) return string.match(tid, '^[^.]*') end

-- Whether a queue waits for a slot of any of `sites`: nearly never, so this one question saves one
-- for each.
local function any_blocked(sites)
  local keys = {}
  for k, site in ipairs(sites) do keys[k] = P .. 'blk:' .. site end
  return call('EXISTS', unpack(keys)) > 0
end

-- Queues have got tasks due at `due`, a text. A blocked queue needs no wake-up of its own: the next free
-- slot finds it, and its safety wake is set.
local function schedule(queues, due)
  local wake, sites, names = {}, {}, {}
  for k, q in ipairs(queues) do sites[k] = site_of(q) end
  local blocked = any_blocked(sites)
  for k, q in ipairs(queues) do
    names[2 * k - 1] = 0
    names[2 * k] = q
    if not (blocked and call('ZSCORE', P .. 'blk:' .. sites[k], q)) then
      wake[#wake + 1] = due
      wake[#wake + 1] = q
    end
  end
  call('ZADD', P .. 'qs', unpack(names))
  if #wake > 0 then call('ZADD', P .. 'wake', 'LT', unpack(wake)) end
end
