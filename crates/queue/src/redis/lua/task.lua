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

-- What `t:<tid>` holds: recipients that have an outcome, and how many; attempts; why it is held, or
-- will be when its claim ends; whether it ends then.
local function state_of(tid)
  local state = { resolved = {}, count = 0, attempts = 0 }
  local fields = call('HGETALL', P .. 't:' .. tid)
  for k = 1, #fields, 2 do
    local name, value = fields[k], fields[k + 1]
    local index = string.match(name, '^r(%d+)$')
    if index then
      state.resolved[index] = true
      state.count = state.count + 1
    elseif name == 'a' then
      state.attempts = tonumber(value)
    elseif name == 'h' then
      state.hold = value
    elseif name == 'x' then
      state.dropped = true
    end
  end
  return state
end

local function wait(tid, q, due)
  due = text(due)
  call('ZADD', P .. 'q:' .. q, due, tid)
  schedule({ q }, due)
end

-- Where a task goes whose claim has ended: it ends or is held if that was asked for meanwhile (`hold`
-- and `dropped` of `state`), otherwise it waits again. A task that was begun by an owner that did not
-- settle it keeps the mark `rb` until it ends: its later owners ask before the last octet.
local function come_back(tid, q, begun, due, state)
  if state.dropped then
    end_task(tid)
    return
  end
  if begun then call('HSET', P .. 't:' .. tid, 'rb', 1) end
  if state.hold then
    call('ZADD', P .. 'hold', now_text, tid .. '|' .. q)
  else
    wait(tid, q, due)
  end
end

-- A notification: its record is small and comes with the step that caused it, because a MULTI would
-- be refused by a full store. Its id is derived, so one that is there already is it.
local function enqueue_notification(mid, record, lifetime, qids)
  if not call('SET', P .. 'm:' .. mid, record, 'NX') then return end
  call('ZADD', P .. 'exp', (now + lifetime) * 2, mid)
  if #qids > 1 then call('HSET', P .. 'rc', mid, #qids) end
  for k, q in ipairs(qids) do wait(mid .. '.' .. (k - 1), q, now) end
end

-- `w`aits and when it is due, is `h`eld and since when, or is `c`laimed, with the score of the claim
-- and whose it is; nil when there is no such task.
local function place_of(handle)
  local tid, q = parts_of(handle)
  local score = call('ZSCORE', P .. 'q:' .. q, tid)
  if score then return 'w', tonumber(score) end
  score = call('ZSCORE', P .. 'hold', handle)
  if score then return 'h', tonumber(score) end
  for _, owner in ipairs(call('SMEMBERS', P .. 'ws')) do
    score = call('ZSCORE', P .. 'c:' .. owner, handle)
    if score then return 'c', score, owner end
  end
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
