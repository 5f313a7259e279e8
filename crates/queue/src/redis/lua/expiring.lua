-- Messages found expired, put off by 30 s for everybody else. ARGV: max. Reply: mids.
local mids = call('ZRANGE', P .. 'exp', '-inf', now * 2 + 1, 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, mid in ipairs(mids) do call('ZADD', P .. 'exp', (now + 30000) * 2 + 1, mid) end
return mids
