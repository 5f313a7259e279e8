-- What every part of `next` knows of its call.
local wid, lane, n = ARGV[1], ARGV[2], tonumber(ARGV[3])
local claim_ms, safety_ms = tonumber(ARGV[4]), tonumber(ARGV[5])

-- Settlements. Membership in the claim set is the fence: what is not there any more is stale, and
-- of a stale settlement only `delivered` counts.
local claims = P .. 'c:' .. wid

-- Adds `indexes` to the resolved ones of `state`, and to `marks`, the fields to write.
-- An outcome never changes: whoever comes first wrote it.
local function mark(state, marks, indexes, outcome)
  for _, index in ipairs(indexes) do
    if not state.resolved[index] then
      state.resolved[index] = true
      state.count = state.count + 1
      marks[#marks + 1] = 'r' .. index
      marks[#marks + 1] = outcome
    end
  end
end

local function write_marks(tid, marks)
  -- unpack has a bound of some 8,000 values.
  for from = 1, #marks, 2000 do
    call('HSET', P .. 't:' .. tid, unpack(marks, from, math.min(from + 1999, #marks)))
  end
end

-- A delivery is a fact whoever reports it. It takes the recipient out of the task wherever the task
-- is; out of another's claim set too, so that nobody notifies about what was delivered.
-- `delivered` nil: every recipient.
local function settle_stale(handle, delivered, recipients)
  local tid, q = parts_of(handle)
  local place, score, owner = place_of(handle)
  if not place then return end
  local over, marks, state = not delivered, {}, nil
  if delivered then
    state = state_of(tid)
    mark(state, marks, delivered, 'd')
    if #marks == 0 then return end
    over = recipients > 0 and state.count >= recipients
  end
  if owner then
    call('ZREM', P .. 'c:' .. owner, handle)
    return_token(owner, tid, score, not is_begun(score))
  end
  if over then
    call('ZREM', P .. 'q:' .. q, tid)
    if place == 'h' then call('ZREM', P .. 'hold', handle) end
    end_task(tid)
    return
  end
  write_marks(tid, marks)
  if owner then come_back(tid, q, is_begun(score), now, state) end
end

-- The common case in one go: `count` distinct handles from ARGV[first], each delivered to all of
-- its recipients. Adds the positions of stale ones to `stale`.
local function settle_delivered(first, count, stale)
  if count == 0 then return end
  local held, mids, tids, gone = {}, {}, {}, {}
  local scores = call('ZMSCORE', claims, unpack(ARGV, first, first + count - 1))
  for k = 1, count do
    local handle = ARGV[first + k - 1]
    if scores[k] then
      local tid = string.match(handle, '^[^|]*')
      held[#held + 1] = handle
      tids[#tids + 1] = tid
      return_token(wid, tid, scores[k], false)
      mids[#mids + 1] = message_of(tid)
    else
      stale[#stale + 1] = k
      gone[#gone + 1] = handle
    end
  end
  if #held > 0 then
    call('ZREM', claims, unpack(held))
    local open = call('HMGET', P .. 'rc', unpack(mids))
    local keys, single = {}, {}
    for k = 1, #held do
      if open[k] then
        end_task(tids[k])
      else
        keys[#keys + 1] = P .. 'm:' .. mids[k]
        keys[#keys + 1] = P .. 'b:' .. mids[k]
        keys[#keys + 1] = P .. 't:' .. tids[k]
        single[#single + 1] = mids[k]
      end
    end
    if #single > 0 then
      call('UNLINK', unpack(keys))
      call('ZREM', P .. 'exp', unpack(single))
      call('HDEL', P .. 'rcl', unpack(tids))
    end
  end
  for _, handle in ipairs(gone) do settle_stale(handle, nil, 0) end
end

-- One settlement of any kind from ARGV[i]: handle, count delivered..., count failed...,
-- recipients, rest (n none, d deferred, g given back, h held, k kept), due, notes or reason, count of notification tasks
-- [mid record lifetime qid...]. Returns whether it was held, and the next i.
local function settle(i)
  local function list()
    local count, items = tonumber(ARGV[i]), {}
    for k = 1, count do items[k] = ARGV[i + k] end
    i = i + 1 + count
    return items
  end
  local handle = ARGV[i]
  i = i + 1
  local delivered, failed = list(), list()
  local recipients, rest, due, notes = tonumber(ARGV[i]), ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
  i = i + 4
  local qids, mid, record, lifetime = list()
  if #qids > 0 then
    mid, record, lifetime = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
    i = i + 3
  end

  local score = call('ZSCORE', claims, handle)
  if not score then
    if #delivered > 0 then settle_stale(handle, delivered, recipients) end
    return false, i
  end
  local tid, q = parts_of(handle)
  local marks = {}
  local state = state_of(tid)
  mark(state, marks, delivered, 'd')
  mark(state, marks, failed, 'f')
  local over = rest == 'n' or (recipients > 0 and state.count >= recipients)
  if over or rest ~= 'k' then
    call('ZREM', claims, handle)
    local is_unused = not over and (rest == 'g' or rest == 'h') and not is_begun(score)
    return_token(wid, tid, score, is_unused)
  end
  if over then
    end_task(tid)
  elseif rest == 'k' then
    write_marks(tid, marks)
  else
    if rest == 'd' then
      marks[#marks + 1] = 'a'
      marks[#marks + 1] = state.attempts + 1
      marks[#marks + 1] = 's'
      marks[#marks + 1] = notes
      call('HDEL', P .. 'rcl', tid)
    elseif rest == 'h' then
      marks[#marks + 1] = 'h'
      marks[#marks + 1] = notes
      state.hold = notes
    end
    write_marks(tid, marks)
    if rest == 'd' then
      come_back(tid, q, false, now + due, state)
    else
      come_back(tid, q, is_begun(score), now, state)
    end
  end
  if mid then enqueue_notification(mid, record, lifetime, qids) end
  return true, i
end
