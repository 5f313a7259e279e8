-- Puts the tasks of messages whose records the same MULTI has just written into their queues.
-- ARGV: wid lane n, messages, then for each: mid lifetime tasks qid...; then of each whose body is
-- in chunks: mid, how many.
-- Reply: 0 ran, 1 refused, 2 reaped, from 3 on which of the latter lacks chunks. Not repeatable, and
-- refused by a full store (no allow-oom).
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
else
  -- Those of a message that is there already do not expire: it is the same one again.
  for k = i, #ARGV, 2 do
    local body = P .. 'b:' .. ARGV[k]
    if call('HLEN', body) ~= tonumber(ARGV[k + 1]) or call('PTTL', body) < 0 then
      refused = 3 + (k - i) / 2
      break
    end
  end
end
if refused then
  -- What has an `exp` entry was accepted before and is alive: its record stays. Chunks stay too:
  -- their message may come again under another number, and they expire.
  for _, m in ipairs(messages) do
    if not call('ZSCORE', P .. 'exp', m.mid) then call('UNLINK', P .. 'm:' .. m.mid) end
  end
  return refused
end

for k = i, #ARGV, 2 do call('PERSIST', P .. 'b:' .. ARGV[k]) end
call('HSET', P .. 'ln:' .. wid, lane, n)
call('HDEL', P .. 'ln:' .. wid, lane .. 'r')
local names, members, expiry = {}, {}, {}
for _, m in ipairs(messages) do
  expiry[#expiry + 1] = text((now + m.lifetime) * 2)
  expiry[#expiry + 1] = m.mid
  if m.tasks > 1 then call('HSET', P .. 'rc', m.mid, m.tasks) end
  for k = 0, m.tasks - 1 do
    local q = ARGV[m.first + k]
    local list = members[q]
    if not list then
      list = {}
      members[q] = list
      names[#names + 1] = q
    end
    list[#list + 1] = now_text
    list[#list + 1] = m.mid .. (k == 0 and '.0' or '.' .. k)
  end
end
-- unpack has a bound of some 8,000 values.
local function each_part(list, size, use)
  for from = 1, #list, size do use({ unpack(list, from, math.min(from + size - 1, #list)) }) end
end
each_part(expiry, 2000, function(part) call('ZADD', P .. 'exp', unpack(part)) end)
for _, q in ipairs(names) do
  each_part(members[q], 2000, function(part) call('ZADD', P .. 'q:' .. q, unpack(part)) end)
end
each_part(names, 1000, function(part) schedule(part, now_text) end)
return 0
