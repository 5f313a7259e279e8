-- One page. ARGV: cursor. Reply: next cursor, ready, deferred, in flight and held (first page only),
-- ms since the oldest was due or -1.
local page = call('ZSCAN', P .. 'qs', ARGV[1], 'COUNT', 1000)
local ready, deferred, in_flight, held, oldest = 0, 0, 0, 0, -1
for k = 1, #page[2], 2 do
  local q = page[2][k]
  local due = call('ZCOUNT', P .. 'q:' .. q, '-inf', now)
  ready = ready + due
  deferred = deferred + call('ZCARD', P .. 'q:' .. q) - due
  if due > 0 then
    oldest = math.max(oldest, now - tonumber(call('ZRANGE', P .. 'q:' .. q, 0, 0, 'WITHSCORES')[2]))
  end
end
if ARGV[1] == '0' then
  held = call('ZCARD', P .. 'hold')
  for _, wid in ipairs(call('SMEMBERS', P .. 'ws')) do
    in_flight = in_flight + call('ZCARD', P .. 'c:' .. wid)
  end
end
return { page[1], ready, deferred, in_flight, held, oldest }
