-- What an administrator does to tasks, in order. ARGV, for each: r retry | l release | h hold | d drop,
-- handle; of a hold the reason; of a drop how many recipients have an outcome by its notice or -1, count
-- of tasks of the notice qid... [mid record lifetime].
-- Reply, for each: 0 done, 1 missing, 2 pending, 3 refused, 4 unchanged.
local DONE, MISSING, PENDING, REFUSED, UNCHANGED = 0, 1, 2, 3, 4
local i, reply = 1, {}
local function argument()
  i = i + 1
  return ARGV[i - 1]
end

local function retry(tid, q, place, due)
  if place ~= 'w' or due <= now then return UNCHANGED end
  wait(tid, q, now)
  return DONE
end

local function hold(tid, q, place, reason)
  if place == 'h' then return UNCHANGED end
  if call('HSETNX', P .. 't:' .. tid, 'h', reason) == 0 then return UNCHANGED end
  if place == 'c' then return PENDING end
  call('ZREM', P .. 'q:' .. q, tid)
  call('ZADD', P .. 'hold', now_text, tid .. '|' .. q)
  return DONE
end

-- It has its next attempts, each alone if it had come to that.
local function let_go(tid, q, place)
  if call('HDEL', P .. 't:' .. tid, 'h') == 0 then return UNCHANGED end
  if tonumber(call('HGET', P .. 'rcl', tid) or 0) > 3 then call('HSET', P .. 'rcl', tid, 3) end
  if place == 'h' then
    call('ZREM', P .. 'hold', tid .. '|' .. q)
    wait(tid, q, now)
  end
  return DONE
end

-- A notice names whom the task is open for. Of a claimed task, and of one of which somebody has been
-- delivered since, that is not known.
local function drop(tid, q, place, resolved)
  if resolved >= 0 and (place == 'c' or state_of(tid).count ~= resolved) then return REFUSED end
  if place == 'c' then
    return call('HSETNX', P .. 't:' .. tid, 'x', 1) == 1 and PENDING or UNCHANGED
  end
  call('ZREM', P .. 'q:' .. q, tid)
  call('ZREM', P .. 'hold', tid .. '|' .. q)
  end_task(tid)
  return DONE
end

while i <= #ARGV do
  local action, handle = argument(), argument()
  local tid, q = parts_of(handle)
  local place, due = place_of(handle)
  local reason, resolved, qids = nil, -1, {}
  if action == 'h' then
    reason = argument()
  elseif action == 'd' then
    resolved = tonumber(argument())
    for k = 1, tonumber(argument()) do qids[k] = argument() end
  end
  local acted = MISSING
  if place then
    if action == 'r' then
      acted = retry(tid, q, place, due)
    elseif action == 'h' then
      acted = hold(tid, q, place, reason)
    elseif action == 'l' then
      acted = let_go(tid, q, place)
    else
      acted = drop(tid, q, place, resolved)
    end
  end
  if #qids > 0 then
    local mid, record, lifetime = argument(), argument(), tonumber(argument())
    if acted == DONE then enqueue_notification(mid, record, lifetime, qids) end
  end
  reply[#reply + 1] = acted
end
return reply
