-- The dot check. ARGV: wid handle. Reply: 1 when the lease stands and the handle is held.
local expiry = call('ZSCORE', P .. 'wk', ARGV[1])
if not expiry or tonumber(expiry) <= now then return 0 end
return call('ZSCORE', P .. 'c:' .. ARGV[1], ARGV[2]) and 1 or 0
