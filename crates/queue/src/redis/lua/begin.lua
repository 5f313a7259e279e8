-- ARGV: wid begun_ms handle... Reply: for each handle 1 begun, 0 not held.
local wid, deadline = ARGV[1], (now + tonumber(ARGV[2])) * 4 + 1
local claims = P .. 'c:' .. wid
local expiry = call('ZSCORE', P .. 'wk', wid)
local valid = expiry and tonumber(expiry) > now
local reply, members = {}, {}
local held = call('ZMSCORE', claims, unpack(ARGV, 3))
for k = 1, #held do
  local begun = valid and held[k]
  reply[k] = begun and 1 or 0
  if begun then
    members[#members + 1] = text(deadline + (is_charged(held[k]) and 2 or 0))
    members[#members + 1] = ARGV[k + 2]
  end
end
if #members > 0 then call('ZADD', claims, unpack(members)) end
return reply
