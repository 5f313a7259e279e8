-- What every connection asks first. ARGV: owner, oldest and newest schema the program reads, the one
-- that is asked for or 0. Reply: the owner and the schema in force.
local meta, owner = P .. 'meta', ARGV[1]
local oldest, newest, asked = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
call('HSETNX', meta, 'owner', owner)
local found = call('HMGET', meta, 'owner', 'schema')
-- Somebody else's queue is left as it is.
if found[1] ~= owner then return found end
local schema = tonumber(found[2] or 0)
if schema == 0 then
  schema = asked > 0 and asked or newest
elseif asked > schema and schema >= oldest then
  schema = asked
else
  return found
end
call('HSET', meta, 'schema', schema)
return { owner, text(schema) }
