-- Makes tasks of a route due that are not, queue by queue. ARGV: route max. Reply: how many.
local route, max = ARGV[1], tonumber(ARGV[2])
local queues, changed, hastened = {}, {}, 0
for _, q in ipairs(call('ZRANGE', P .. 'qs', 0, -1)) do
  if site_of(q) == route then queues[#queues + 1] = q end
end
for _, q in ipairs(queues) do
  if hastened == max then break end
  local tids = call('ZRANGE', P .. 'q:' .. q, '(' .. now_text, '+inf', 'BYSCORE', 'LIMIT', 0, max - hastened)
  if #tids > 0 then
    local members = {}
    for _, tid in ipairs(tids) do
      members[#members + 1] = now_text
      members[#members + 1] = tid
    end
    call('ZADD', P .. 'q:' .. q, 'XX', unpack(members))
    changed[#changed + 1] = q
    hastened = hastened + #tids
  end
end
if #changed > 0 then schedule(changed, now_text) end
return hastened
