-- KEYS: account, record. ARGV[1]: cost and size of each bucket, time to live.
local c1, b1, c2, b2, ttl = struct.unpack('<I7I7I7I7I4', ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local x, y = now, now
local raw = redis.call('GET', KEYS[1])
if raw then
  x, y = struct.unpack('<I7I7', raw)
  if x < now then x = now end
  if y < now then y = now end
end
x, y = x + c1, y + c2
if x > now + b1 or y > now + b2 then
  return redis.call('GET', KEYS[2]) or struct.pack('<BI7I7', 0, math.max(0, x - now - b1), math.max(0, y - now - b2))
end
local answer = struct.pack('<BI7I7I7', 1, now, x, y)
if not redis.call('SET', KEYS[2], answer, 'NX', 'PX', ttl) then return redis.call('GET', KEYS[2]) end
local full = x > y and x or y
redis.call('SET', KEYS[1], struct.pack('<I7I7', x, y), 'PX', math.ceil((full - now) / 1000) + 1)
return answer
