-- ARGV: generation default, then site concurrency... Reply: 1 written, 0 a newer generation is there.
if tonumber(ARGV[1]) < tonumber(call('HGET', P .. 'lim', 'generation') or 0) then return 0 end
local sites = {}
local function note(field)
  local site = string.match(field, '^site:(.*)$')
  if site then sites[site] = true end
end
for _, field in ipairs(call('HKEYS', P .. 'lim')) do note(field) end
call('UNLINK', P .. 'lim')
call('HSET', P .. 'lim', 'generation', ARGV[1], 'default', ARGV[2])
for k = 3, #ARGV, 2 do
  call('HSET', P .. 'lim', 'site:' .. ARGV[k], ARGV[k + 1])
  sites[ARGV[k]] = true
end
-- What is blocked is blocked at a site that has slots in use or a limit of its own.
for _, site in ipairs(call('HKEYS', P .. 'ct')) do sites[site] = true end
local names = {}
for site in pairs(sites) do names[#names + 1] = site end
table.sort(names)
for _, site in ipairs(names) do
  unblock(site, math.max(0, limit_of(site) - used_of(site)))
end
save_turn()
return 1
