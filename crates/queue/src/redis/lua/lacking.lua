-- ARGV: commands. Reply: those that this user may not use on the queue's keys. Asked before anything
-- runs: a script that is refused half way leaves half of its step.
local lacking = {}
for _, command in ipairs(ARGV) do
  if not redis.acl_check_cmd(command, KEYS[1] .. 'm') then lacking[#lacking + 1] = command end
end
return lacking
