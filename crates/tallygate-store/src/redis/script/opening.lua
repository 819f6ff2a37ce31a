
-- Opening ----------------------------------------------------------------------------------------------------
-- Accounts become tables: at once those that are not plain, others when an operation needs them so.

-- One limit of a rule.
local function limit_at(q)
  local kind, amount, x, y, z = sub(head, q, q)
  amount, q = get('<I7', head, q + 1)
  if kind == 'b' then
    x, y, z, q = get('<I6I7I6', head, q)
    return { kind = kind, amount = amount, base = x, bh = y, bl = z }, q
  elseif kind == 's' then
    x, y, q = get('<I7I7', head, q)
    return { kind = kind, amount = amount, every = x, width = y }, q
  elseif kind == 'f' then
    x, y, z, q = get('<I7I7I7', head, q)
    return { kind = kind, amount = amount, number = x, from = y, to = z }, q
  end
  return { kind = kind, amount = amount }, q
end

local rules, q = {}, rules_at
for at = 1, rule_count do
  local n, enforced
  n, enforced, q = get('<BB', head, q)
  local rule = { enforced = enforced == 1, ask = '<' .. ('I7I7I6'):rep(n) }
  for j = 1, n do rule[j], q = limit_at(q) end
  rules[at] = rule
end

local function open(_, at)
  local rule, slots = get('<I2I2', head, p + 4 * at - 4)
  local a = f.open_account(KEYS[at], rules[rule], slots, raws[at])
  a.dirty = a.dirty or tills[at] ~= nil
  accounts[at], plain[at] = a, false
  return a
end

local function open_others()
  for at = 1, count do
    if not plain[at] then open(nil, at) end
  end
end

accounts = {}
-- Nothing is done where something else than an account was found.
if not pcall(open_others) then
  local unreadable = ''
  for at = 1, count do
    if not pcall(open, nil, at) then unreadable = unreadable .. put('<I2', at) end
  end
  do return { put('<I7', now), unreadable } end
end

for at = 1, count do
  local a = accounts[at]
  if a and a.zset then f.expire_slots(a) end
  if a and a.leases[1] then f.open_shares(a) end
end
setmetatable(accounts, { __index = open })
