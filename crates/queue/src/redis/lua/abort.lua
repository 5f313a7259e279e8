-- Takes back a message whose enqueue had no reply. ARGV: wid lane n mid handle...
-- Reply: 1 gone, 0 held. All of its tasks or none: a task that is neither waiting nor held nor claimed here
-- and not begun may have been seen by somebody.
local wid, lane, n, mid = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
if call('ZSCORE', P .. 'wk', wid) and tonumber(call('HGET', P .. 'ln:' .. wid, lane) or 0) < n then
  call('HSET', P .. 'ln:' .. wid, lane, n)
  call('HDEL', P .. 'ln:' .. wid, lane .. 'r')
end
local claims, scores = P .. 'c:' .. wid, {}
if call('ZSCORE', P .. 'exp', mid) then
  if #ARGV - 4 ~= tonumber(call('HGET', P .. 'rc', mid) or 1) then return 0 end
  for k = 5, #ARGV do
    local tid, q = parts_of(ARGV[k])
    if not call('ZSCORE', P .. 'q:' .. q, tid) and not call('ZSCORE', P .. 'hold', ARGV[k]) then
      local score = call('ZSCORE', claims, ARGV[k])
      if not score or is_begun(score) then return 0 end
      scores[k] = score
    end
  end
  for k = 5, #ARGV do
    local tid, q = parts_of(ARGV[k])
    call('ZREM', P .. 'q:' .. q, tid)
    call('ZREM', P .. 'hold', ARGV[k])
    call('ZREM', claims, ARGV[k])
    if scores[k] then return_token(wid, tid, scores[k], true) end
    call('UNLINK', P .. 't:' .. tid)
    call('HDEL', P .. 'rcl', tid)
  end
  call('ZREM', P .. 'exp', mid)
  call('HDEL', P .. 'rc', mid)
  save_turn()
end
call('UNLINK', P .. 'm:' .. mid, P .. 'b:' .. mid)
return 1
