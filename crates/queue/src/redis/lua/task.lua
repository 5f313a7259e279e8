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

-- Claim sets hold handle -> deadline * 2 + begun.
local function is_begun(score) return tonumber(score) % 2 == 1 end
