-- ARGV: scope. Reply: 1, or 0 when it was not suspended.
local scope = ARGV[1]
local known = call('HGET', P .. 'sus', scope)
if not known then return 0 end
call('HDEL', P .. 'sus', scope)
call('HSET', P .. 'st', 'sn', call('HLEN', P .. 'sus'))
call('ZREM', P .. 'wake', '!' .. scope)
-- Those it kept back are woken with it, some at a time.
if call('EXISTS', P .. 'pk:' .. scope) == 1 then call('ZADD', P .. 'wake', now, '!' .. scope) end
local ends = tonumber(string.match(known, '^%d+'))
return (ends == 0 or ends > now) and 1 or 0
