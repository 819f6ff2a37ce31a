-- For tests: the clock is the last argument, and keys end by that clock, as early as a server could end them.
local now = tonumber(table.remove(ARGV))
local real = redis.call
local ends = 'ends:' .. select(3, struct.unpack('<c8BBc0', ARGV[1]))

local function end_at(key, micros) real('HSET', ends, key, micros) end

local function forget_ended(key)
  local at = real('HGET', ends, key)
  if at and tonumber(at) <= now then
    real('DEL', key)
    real('HDEL', ends, key)
  end
end

if KEYS[1] then
  local known = real('HMGET', ends, unpack(KEYS))
  for i, key in ipairs(KEYS) do
    if known[i] then forget_ended(key) end
  end
end

local as_told = {}

function as_told.GET(key)
  forget_ended(key)
  return real('GET', key)
end

function as_told.SET(key, value, ...)
  local words, millis = { ... }
  if words[#words - 1] == 'PX' then
    millis = table.remove(words)
    table.remove(words)
  end
  local done = real('SET', key, value, unpack(words))
  if done and millis then end_at(key, now + millis * 1000 - 999) end
  return done
end

function as_told.PEXPIRE(key, millis) end_at(key, now + millis * 1000 - 999) end

function as_told.PEXPIREAT(key, millis) end_at(key, millis * 1000 - 999) end

function as_told.DEL(key)
  real('HDEL', ends, key)
  return real('DEL', key)
end

function as_told.ZADD(key, ...)
  if real('EXISTS', key) == 0 then real('HDEL', ends, key) end
  return real('ZADD', key, ...)
end

local try = redis.pcall

-- Redis 7.0 says that it does not know the command.
function as_told.MSETEX(count, ...)
  local words = { ... }
  local millis = table.remove(words)
  table.remove(words)
  local done = try('MSETEX', count, unpack(words))
  for i = 1, done == 1 and #words or 0, 2 do end_at(words[i], now + millis * 1000 - 999) end
  return done
end

local redis = {
  call = function(name, ...) return (as_told[name] or function(...) return real(name, ...) end)(...) end,
}
redis.pcall = redis.call
