-- Puts the tasks of messages whose records the same MULTI has just written into their queues.
-- ARGV: wid lane n, messages, then for each: mid lifetime tasks qid...
-- Reply: 0 ran, 1 refused, 2 reaped. Not repeatable, and refused by a full store (no allow-oom).
local wid, lane, n = ARGV[1], ARGV[2], tonumber(ARGV[3])
local messages, i = {}, 5
for k = 1, tonumber(ARGV[4]) do
  local tasks = tonumber(ARGV[i + 2])
  messages[k] = { mid = ARGV[i], lifetime = tonumber(ARGV[i + 1]), tasks = tasks, first = i + 3 }
  i = i + 3 + tasks
end

local refused
if n <= tonumber(call('HGET', P .. 'ln:' .. wid, lane) or 0) then
  refused = 1
elseif not call('ZSCORE', P .. 'wk', wid) then
  refused = 2
end
if refused then
  -- What has an `exp` entry was accepted before and is alive: its record stays.
  for _, m in ipairs(messages) do
    if not call('ZSCORE', P .. 'exp', m.mid) then call('UNLINK', P .. 'm:' .. m.mid) end
  end
  return refused
end

call('HSET', P .. 'ln:' .. wid, lane, n)
local queues = {}
for _, m in ipairs(messages) do
  call('ZADD', P .. 'exp', (now + m.lifetime) * 2, m.mid)
  if m.tasks > 1 then call('HSET', P .. 'rc', m.mid, m.tasks) end
  for k = 0, m.tasks - 1 do
    local q = ARGV[m.first + k]
    local members = queues[q]
    if not members then members = {}; queues[q] = members end
    members[#members + 1] = now
    members[#members + 1] = m.mid .. '.' .. k
  end
end
for q, members in pairs(queues) do
  -- unpack has a bound of some 8,000 values.
  for from = 1, #members, 2000 do
    call('ZADD', P .. 'q:' .. q, unpack(members, from, math.min(from + 1999, #members)))
  end
  schedule(q, now)
end
return 0
