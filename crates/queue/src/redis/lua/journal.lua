-- ARGV: first position, max. Reply: position, count, outcomes... of each entry.
local reply = {}
for _, entry in ipairs(call('XRANGE', P .. 'ev', ARGV[1], '+', 'COUNT', ARGV[2])) do
  local outcomes = cmsgpack.unpack(entry[2][2])
  reply[#reply + 1] = entry[1]
  reply[#reply + 1] = #outcomes
  for _, outcome in ipairs(outcomes) do reply[#reply + 1] = outcome end
end
return reply
