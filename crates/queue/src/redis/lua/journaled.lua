-- The outcomes of a call become one entry of the journal. ARGV from `first`: entries to keep, then for
-- each outcome its position, 1 when it counts although it is stale, octets. `stale`: positions.
local function add_to_journal(first, stale)
  local is_stale, outcomes = {}, {}
  for _, position in ipairs(stale) do is_stale[position] = true end
  for k = first + 1, #ARGV, 3 do
    if ARGV[k + 1] == '1' or not is_stale[tonumber(ARGV[k])] then
      outcomes[#outcomes + 1] = ARGV[k + 2]
    end
  end
  if #outcomes == 0 then return end
  call('XADD', P .. 'ev', 'MAXLEN', '~', ARGV[first], '*', 'o', cmsgpack.pack(outcomes))
end
