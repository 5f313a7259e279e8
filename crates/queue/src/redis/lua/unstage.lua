-- Drops the chunks of a message that was not enqueued. ARGV: mid. Reply: how many keys went.
-- One that was keeps them, whatever its worker believes.
if call('ZSCORE', P .. 'exp', ARGV[1]) then return 0 end
return call('UNLINK', P .. 'b:' .. ARGV[1])
