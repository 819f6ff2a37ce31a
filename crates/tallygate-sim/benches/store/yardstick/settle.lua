-- KEYS: account, record. ARGV[1]: what goes back to the second bucket, what was used.
local record = redis.call('GET', KEYS[2])
if not record or string.byte(record) ~= 1 then return record end
local raw = redis.call('GET', KEYS[1])
if raw then
  local back = struct.unpack('<I7', ARGV[1])
  local y = struct.unpack('<I7', raw, 8)
  redis.call('SETRANGE', KEYS[1], 7, struct.pack('<I7', math.max(0, y - back)))
end
local receipt = '\2' .. string.sub(ARGV[1], 8)
redis.call('SET', KEYS[2], receipt, 'PX', 120000)
return receipt
