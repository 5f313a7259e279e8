-- After a lost reply. ARGV: wid lane n. Reply: 0 and the stored reply of `next`, 1 barred, 2 reaped.
-- A call that had not run is barred by its number: its octets may still arrive.
local wid, lane, n = ARGV[1], ARGV[2], tonumber(ARGV[3])
if not call('ZSCORE', P .. 'wk', wid) then return { 2 } end
local ln = call('HMGET', P .. 'ln:' .. wid, lane, lane .. 'r')
local last = tonumber(ln[1] or 0)
if n == last and ln[2] then return cmsgpack.unpack(ln[2]) end
if n > last then
  call('HSET', P .. 'ln:' .. wid, lane, n)
  call('HDEL', P .. 'ln:' .. wid, lane .. 'r')
end
return { 1 }
