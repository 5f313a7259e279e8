-- ARGV: wid begun_ms handle... Reply: for each handle 1 begun, 0 not held.
local wid, deadline = ARGV[1], now + tonumber(ARGV[2])
local claims = P .. 'c:' .. wid
local expiry = call('ZSCORE', P .. 'wk', wid)
local valid = expiry and tonumber(expiry) > now
local reply = {}
for k = 3, #ARGV do
  if valid and call('ZSCORE', claims, ARGV[k]) then
    call('ZADD', claims, deadline * 2 + 1, ARGV[k])
    reply[k - 2] = 1
  else
    reply[k - 2] = 0
  end
end
return reply
