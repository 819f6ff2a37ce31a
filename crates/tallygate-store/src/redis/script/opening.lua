
-- Opening ----------------------------------------------------------------------------------------------------
-- An account is plain while its limits are buckets on each of which one reservation is open at most, and there is nothing
-- besides. A plain one stays the text that is kept until an operation needs it as a table.

local records
count, records, p = get('<I2I2', ARGV[1], p)
-- The accounts, and behind them the reservations that are to be made or to end.
local raws = count + records > 0 and call('MGET', unpack(KEYS, 1, count + records)) or {}
-- The rule of each plain one, and until when each that was changed is kept.
local plain, tills = {}, {}

local function is_plain(rule, raw)
  local q = 1
  for j = 1, raw and #rule or 0 do
    local n = byte(raw, q + 20)
    if n == 0 then
      q = q + 21
    elseif n == ALONE then
      q = q + 49
    elseif n == 1 then
      q = q + 91
    else
      return false
    end
  end
  return not raw or q == #raw + 1
end

local function open(_, i)
  local rule, slots = get('<I2I2', ARGV[1], p + 4 * i - 4)
  local a = f.open_account(KEYS[i], rules[rule], slots, raws[i])
  a.dirty = a.dirty or tills[i] ~= nil
  accounts[i], plain[i] = a, false
  return a
end

local function open_others()
  for i = 1, count do
    local rule = rules[get('<I2', ARGV[1], p + 4 * i - 4)]
    if rule.plain and is_plain(rule, raws[i]) then plain[i] = rule else open(nil, i) end
  end
end

-- Nothing is done where something else than an account was found.
if not pcall(open_others) then
  local unreadable = ''
  for i = 1, count do
    if not pcall(open, nil, i) then unreadable = unreadable .. put('<I2', i) end
  end
  return { put('<I7', now), unreadable }
end

for i = 1, count do
  local a = accounts[i]
  if a and a.zset then f.expire_slots(a) end
  if a and a.leases[1] then f.open_shares(a) end
end
setmetatable(accounts, { __index = open })
