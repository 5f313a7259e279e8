-- Tasks where they are. ARGV: handle... Reply, for each: `-` when it is not there, or the task.
local reply = {}
for _, handle in ipairs(ARGV) do
  local place, score, owner = place_of(handle)
  if place then
    show(reply, handle, place, score, owner)
  else
    reply[#reply + 1] = '-'
  end
end
return reply
