-- Reply: of each in force its scope, ms it lasts or -1, reason.
local reply, all = {}, call('HGETALL', P .. 'sus')
for k = 1, #all, 2 do
  local ends, reason = string.match(all[k + 1], '^(%d+) (.*)$')
  ends = tonumber(ends)
  if ends == 0 or ends > now then
    reply[#reply + 1] = all[k]
    reply[#reply + 1] = ends == 0 and -1 or ends - now
    reply[#reply + 1] = reason
  end
end
return reply
