-- What can become of a task once it has been taken from its place.
local function parts_of(handle)
  return string.match(handle, '^([^|]*)|(.*)$')
end

-- Only for whoever removed the task from a queue or a claim set in this same script: the count of
-- open tasks and the record change with a removal and never without one.
local function end_task(tid)
  local mid = message_of(tid)
  call('UNLINK', P .. 't:' .. tid)
  call('HDEL', P .. 'rcl', tid)
  if call('HEXISTS', P .. 'rc', mid) == 1 then
    if call('HINCRBY', P .. 'rc', mid, -1) > 0 then return end
    call('HDEL', P .. 'rc', mid)
  end
  call('UNLINK', P .. 'm:' .. mid, P .. 'b:' .. mid)
  call('ZREM', P .. 'exp', mid)
end

-- Back to its queue. A task that was begun by an owner that did not settle it keeps the mark `rb`
-- until it ends: its later owners ask before the last octet.
local function put_back(tid, q, begun, due)
  if begun then call('HSET', P .. 't:' .. tid, 'rb', 1) end
  due = text(due)
  call('ZADD', P .. 'q:' .. q, due, tid)
  schedule({ q }, due)
end

-- Claim sets hold handle -> deadline * 4 + charged to the rate of a site * 2 + begun.
local function is_begun(score) return tonumber(score) % 2 == 1 end
local function is_charged(score) return math.floor(tonumber(score) / 2) % 2 == 1 end

-- A claim has left the set of `owner`, where it had `score`. The token of one that was not used for a
-- transaction goes back to the site it is from, whatever has become of its queue meanwhile.
local function return_token(owner, tid, score, is_unused)
  if not is_charged(score) then return end
  local site = call('HGET', P .. 'cs:' .. owner, tid)
  call('HDEL', P .. 'cs:' .. owner, tid)
  local rate = is_unused and site and rate_of(site)
  if rate then charge(site, rate, -1) end
end
