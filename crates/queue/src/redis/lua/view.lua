-- A task as it is shown: `r`eady and since when, `d`eferred and for how long, `h`eld and since when,
-- or `c`laimed, whether begun and by whom; its handle; number of state fields and values, these.
local function show(reply, handle, place, score, owner)
  local number = tonumber(score)
  if place == 'c' then
    number = number % 2
  elseif place == 'w' and number > now then
    place, number = 'd', number - now
  else
    if place == 'w' then place = 'r' end
    number = math.max(0, now - number)
  end
  reply[#reply + 1] = place
  reply[#reply + 1] = number
  if place == 'c' then reply[#reply + 1] = owner end
  reply[#reply + 1] = handle
  local state = call('HGETALL', P .. 't:' .. string.match(handle, '^[^|]*'))
  reply[#reply + 1] = #state
  for _, value in ipairs(state) do reply[#reply + 1] = value end
end
