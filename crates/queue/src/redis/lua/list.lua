-- One page of tasks: those that wait by queue, then held ones, then claimed ones. Reads only.
-- ARGV: looks; the place, r d h or c, or nothing; how names of a tenant's queues begin, up to the |, or
-- nothing; the route or nothing; where to go on: part, queue or worker, score and member.
-- Reply: whether there may be more, and where to go on; then the tasks.
local looks, only, tenant, route = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local part, of, score, member = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local reply, stopped = { 0, '', '', 0, '' }, nil

local function wanted(q)
  return string.sub(q, 1, #tenant) == tenant and (route == '' or string.match(q, '^.*|(.*)$') == route)
end

-- As the server orders members. Its comparison of strings in scripts goes by the locale.
local function is_after(a, b)
  for k = 1, math.min(#a, #b) do
    local x, y = string.byte(a, k), string.byte(b, k)
    if x ~= y then return x > y end
  end
  return #a > #b
end

-- The rank of the first behind (score, member), which may have gone.
local function rank_behind(key)
  local low = call('ZCOUNT', key, '-inf', '(' .. score)
  local high = call('ZCOUNT', key, '-inf', score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if is_after(call('ZRANGE', key, middle, middle)[1], member) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

-- Shows what `key` holds from rank `first` to `last`, at least one; false when that was the last look.
local function walk(key, first, last, name, each)
  last = math.min(last, first + math.max(looks, 1) - 1)
  if first > last then return true end
  local view = call('ZRANGE', key, first, last, 'WITHSCORES')
  for k = 1, #view, 2 do each(view[k], view[k + 1]) end
  looks = looks - #view / 2
  if looks > 0 then return true end
  stopped = { name, view[#view], view[#view - 1] }
  return false
end

local function waiting()
  local from = of ~= '' and '[' .. of or tenant ~= '' and '[' .. tenant or '-'
  while true do
    local names = call('ZRANGE', P .. 'qs', from, '+', 'BYLEX', 'LIMIT', 0, 100)
    for _, q in ipairs(names) do
      if string.sub(q, 1, #tenant) ~= tenant then return true end
      if looks <= 0 then
        stopped = { q, 0, '' }
        return false
      end
      if wanted(q) then
        local key = P .. 'q:' .. q
        local first, last = 0, call('ZCARD', key) - 1
        if q == of and member ~= '' then first = rank_behind(key) end
        if only ~= '' then
          local due = call('ZCOUNT', key, '-inf', now_text)
          if only == 'd' then first = math.max(first, due) else last = due - 1 end
        end
        local function each(tid, due) show(reply, tid .. '|' .. q, 'w', due) end
        if not walk(key, first, last, q, each) then return false end
      end
      looks = looks - 1
    end
    if #names == 0 then return true end
    from = '(' .. names[#names]
  end
end

local function held()
  local key, first = P .. 'hold', 0
  if part == 'h' and member ~= '' then first = rank_behind(key) end
  return walk(key, first, call('ZCARD', key) - 1, '', function(handle, since)
    if wanted(string.match(handle, '^[^|]*|(.*)$')) then show(reply, handle, 'h', since) end
  end)
end

local function claimed()
  local workers = call('SMEMBERS', P .. 'ws')
  table.sort(workers)
  for _, worker in ipairs(workers) do
    if part ~= 'c' or worker >= of then
      local key, first = P .. 'c:' .. worker, 0
      if part == 'c' and worker == of and member ~= '' then first = rank_behind(key) end
      local on = walk(key, first, call('ZCARD', key) - 1, worker, function(handle, deadline)
        if wanted(string.match(handle, '^[^|]*|(.*)$')) then show(reply, handle, 'c', deadline, worker) end
      end)
      if not on then return false end
    end
  end
  return true
end

local parts = {
  { 'w', waiting, only == '' or only == 'r' or only == 'd' },
  { 'h', held, only == '' or only == 'h' },
  { 'c', claimed, only == '' or only == 'c' },
}
local reached = false
for _, each in ipairs(parts) do
  local letter, list, is_wanted = unpack(each)
  reached = reached or letter == part
  if reached and is_wanted and not list() then
    reply[1], reply[2], reply[3], reply[4], reply[5] = 1, letter, stopped[1], tonumber(stopped[2]), stopped[3]
    break
  end
end
return reply
