-- ARGV: wid lease_ms. Reply: 1, or 0 when the id is known: it may own what this process does not
-- know of.
local wid = ARGV[1]
if call('SISMEMBER', P .. 'ws', wid) == 1 then return 0 end
call('SADD', P .. 'ws', wid)
call('ZADD', P .. 'wk', now + tonumber(ARGV[2]), wid)
call('HSET', P .. 'wks', wid, now)
return 1
