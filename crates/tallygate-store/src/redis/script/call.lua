-- Tallygate's decisions on Redis and Valkey: one call, many operations, each all or nothing.
--
-- KEYS    accounts first, in the order of their descriptions; then whatever operations name by number.
-- ARGV[1] who asks, the rules, and which of them each account is under; ARGV[2..] one operation each. Layouts: script.rs.
-- Answer  the time; each account as it stands now; the answer to each operation. The time alone, and nothing is
--         done, when a calendar window is not the one the caller thinks. The time and the numbers of the accounts that
--         cannot be read, and nothing is done, where there are such.
--
-- An instant is microseconds since 1970. The level of a bucket is the instant at which it is full again, and is
-- finer: `h` microseconds and `l` parts, `base` of which make one. Costs come ready made from the caller's exact
-- arithmetic, so that nothing multiplies here and every number stays exact below 2^53.
--
-- The server runs all of this for each call, so it is written to make little: functions are fields of one table, as one that
-- is a local costs each other function that names it; a table is made with its fields, at most eight where that can be; and
-- what few calls need is made when it is first asked for.
local call, sub, byte, char, concat = redis.call, string.sub, string.byte, string.char, table.concat
local get, put = struct.unpack, struct.pack
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min

-- What stands for the number of epochs of a bucket on which one reservation alone was open from its first moment on.
local ALONE = 255

-- The cost of nothing.
local NOTHING = put('<I7I6', 0, 0)

-- Makes what few calls need.
local seldom, others = {}
local f = setmetatable({}, {
  __index = function(made, name)
    if others then
      others()
      others = nil
    end
    repeat table.remove(seldom)() until rawget(made, name)
    return made[name]
  end,
})

local node, flags, prefix, count, p = get('<c8BBc0I2', ARGV[1])
-- Whether subscribers are seen, and whether more than one operation may be written at one go.
local alone, many = flags % 2, flags >= 2 and #ARGV > 2
local rules, accounts = {}, {}

-- One limit of a rule.
local function limit_at(q)
  local kind, amount, x, y, z = sub(ARGV[1], q, q)
  amount, q = get('<I7', ARGV[1], q + 1)
  if kind == 'b' then
    x, y, z, q = get('<I6I7I6', ARGV[1], q)
    return { kind = kind, amount = amount, base = x, bh = y, bl = z }, q
  elseif kind == 's' then
    x, y, q = get('<I7I7', ARGV[1], q)
    return { kind = kind, amount = amount, every = x, width = y }, q
  elseif kind == 'f' then
    x, y, z, q = get('<I7I7I7', ARGV[1], q)
    return { kind = kind, amount = amount, number = x, from = y, to = z, is_past = now < y or now >= z }, q
  end
  return { kind = kind, amount = amount }, q
end

for i = 1, count do
  local n, enforced
  n, enforced, p = get('<BB', ARGV[1], p)
  local rule = { enforced = enforced == 1, plain = true, ask = '<' .. ('I7I7I6'):rep(n) }
  for j = 1, n do
    rule[j], p = limit_at(p)
    if rule[j].is_past then return { put('<I7', now) } end
    if rule[j].kind ~= 'b' then rule.plain = false end
  end
  rules[i] = rule
end
