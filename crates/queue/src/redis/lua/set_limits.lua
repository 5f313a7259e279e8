-- ARGV: generation default, then field value... (as in `lim`) Reply: 1 written, 0 a newer generation is there.
if tonumber(ARGV[1]) < tonumber(call('HGET', P .. 'lim', 'generation') or 0) then return 0 end
call('UNLINK', P .. 'lim')
call('HSET', P .. 'lim', 'generation', ARGV[1], 'default', ARGV[2])
for k = 3, #ARGV, 2 do
  call('HSET', P .. 'lim', ARGV[k], ARGV[k + 1])
end
local blocked = call('SMEMBERS', P .. 'bs')
table.sort(blocked)
for _, site in ipairs(blocked) do
  unblock(site, math.huge)
end
save_turn()
return 1
