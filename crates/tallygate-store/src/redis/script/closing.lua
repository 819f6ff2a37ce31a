
-- Closing ----------------------------------------------------------------------------------------------------
-- Keeps each account until it is as good as a fresh one: then not at all.

local reply = { put('<I7', now), nil, nil }
for i = 1, count do
  local raw, till, was_kept = raws[i], tills[i], true
  if not plain[i] then raw, till, was_kept = f.close(accounts[i]) end
  if till and till <= now then
    if was_kept then call('DEL', KEYS[i]) end
    raw = ''
  elseif till and many then
    write(KEYS[i], raw, life_till(till))
  elseif till then
    call('SET', KEYS[i], raw, 'PX', ceil((till - now) / 1000) + 1)
  end
  reply[i + 1] = raw or ''
end
if many then write_waiting() end
if failed then error(failed, 0) end
for i = 2, #ARGV do reply[count + i] = answers[i] end
return reply
