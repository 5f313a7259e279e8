-- ARGV: scope, ms or -1, reason. Reply: 1.
local scope, lasts = ARGV[1], tonumber(ARGV[2])
local ends = lasts >= 0 and now + lasts or 0
call('HSET', P .. 'sus', scope, text(ends) .. ' ' .. ARGV[3])
-- In `st`, where every claim reads it anyway.
call('HSET', P .. 'st', 'sn', call('HLEN', P .. 'sus'))
call('ZREM', P .. 'wake', '!' .. scope)
if ends > 0 then call('ZADD', P .. 'wake', ends, '!' .. scope) end
return 1
