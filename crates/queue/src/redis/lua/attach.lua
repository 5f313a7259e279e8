-- What every connection asks first. ARGV: schema owner. Reply: the schema and owner in force.
call('HSETNX', P .. 'meta', 'schema', ARGV[1])
call('HSETNX', P .. 'meta', 'owner', ARGV[2])
return call('HMGET', P .. 'meta', 'schema', 'owner')
