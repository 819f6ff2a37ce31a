
-- Shares -----------------------------------------------------------------------------------------------------
-- What a process may spend by itself is not charged before it tells what it spent, but nobody else can have it: what is
-- charged and all shares together never exceed a limit. Whatever was asked of a share once is in `turn`.

function f.read_shares(a, raw, q)
  local n
  n, q = get('<B', raw, q)
  a.leases = {}
  for i = 1, n do
    local e = {}
    e.node, e.till, e.asked, e.turn, e.grown, q = get('<c8I7BI7B', raw, q)
    for j = 1, #a do
      local s = {}
      s.amount, s.h, s.l, q = get('<I7I7I6', raw, q)
      e[j] = s
    end
    a.leases[i] = e
  end
  return q
end

local function sum_shares(a)
  for j = 1, #a do
    local s = { amount = 0, h = 0, l = 0 }
    for i = 1, #a.leases do
      local e = a.leases[i][j]
      s.amount = s.amount + e.amount
      if a[j].of.kind == 'b' then f.add(s, e.h, e.l, a[j].of.base) end
    end
    a[j].shared = s
  end
end

-- A share is still of so many, which another amount makes last longer or shorter.
local function rescale_shares(a)
  for j = 1, #a do
    local by = a[j].by
    for i = 1, by and #a.leases or 0 do
      local s = a.leases[i][j]
      if s.amount > 0 then s.h, s.l = ceil((s.h + 1) * by) + 1, 0 end
    end
  end
end

local function charge_bucket(m, ch, cl)
  f.look(m)
  if m.n == 0 then
    f.raise_to_now(m)
    return f.add(m, ch, cl, m.of.base)
  end
  for i = 1, m.n do f.add(m[i], ch, cl, m.of.base) end
  f.set_level(m)
end

local function spend_share(m, s)
  if s.amount == 0 then return end
  if m.of.kind == 'b' then
    charge_bucket(m, s.h, s.l)
  elseif m.of.kind ~= 'f' or now >= m.of.from then
    f.charge(m, s.amount)
  end
end

-- A lease that was not renewed in time counts as spent, at the moment at which it ended.
local function expire_leases(a)
  local moment = now
  while true do
    local first
    for i, e in ipairs(a.leases) do
      if e.till <= moment and (not first or e.till < a.leases[first].till) then first = i end
    end
    if not first then break end
    local e = table.remove(a.leases, first)
    now = e.till
    for j = 1, #a do spend_share(a[j], e[j]) end
    a.dirty = true
  end
  now = moment
end

function f.open_shares(a)
  rescale_shares(a)
  expire_leases(a)
  sum_shares(a)
end

-- Until when an account with these shares is not as good as fresh.
local function shares_till(a)
  local till, last = 0, 0
  for _, e in ipairs(a.leases) do last = max(last, e.till) end
  for j = 1, #a do
    local m, s = a[j], a[j].shared
    till = max(till, last)
    if s.amount > 0 and m.of.kind == 'b' then
      till = max(till, max(m.h, last) + s.h + #a.leases + 1)
    elseif s.amount > 0 then
      till = max(till, m.of.kind == 'f' and m.of.to or last + m.of.every)
    end
  end
  return till
end

function f.write_shares(a, out)
  out[#out + 1] = put('<c1B', 's', #a.leases)
  for _, e in ipairs(a.leases) do
    out[#out + 1] = put('<c8I7BI7B', e.node, e.till, e.asked, e.turn, e.grown)
    for j = 1, #a do
      out[#out + 1] = put('<I7I7I6', e[j].amount, e[j].h, e[j].l)
    end
  end
  return shares_till(a)
end

local function lease_of(a)
  for _, e in ipairs(a.leases) do
    if e.node == node then return e end
  end
end

-- Whether a share may grow by what is asked: with as much as `spare` left free beside it.
local function may_grow(a, asks)
  if not a.rule.enforced then return true end
  for j = 1, #a do
    local m, c = a[j], asks[j]
    if c.amount > 0 then
      if m.of.kind == 'b' then f.look(m) end
      local h, l = c.h + c.spare_h, c.l + c.spare_l
      if not f.fits(m, c.amount + c.spare, h, l) then return false end
    end
  end
  return true
end

local function read_report(a, op, q)
  local asks = {}
  for j = 1, #a do
    local c = {}
    c.spent, c.spent_h, c.spent_l, q = get('<I7I7I6', op, q)
    c.over, c.over_h, c.over_l, q = get('<I7I7I6', op, q)
    c.back, c.back_h, c.back_l, q = get('<I7I7I6', op, q)
    c.amount, c.h, c.l, q = get('<I7I7I6', op, q)
    c.spare, c.spare_h, c.spare_l, q = get('<I7I7I6', op, q)
    asks[j] = c
  end
  return asks
end

-- Never below nothing: the store may have lost what the share grew by.
local function shrink(m, s, amount, ch, cl)
  s.amount = max(0, s.amount - amount)
  if m.of.kind == 'b' then f.take(s, ch, cl, m.of.base) end
  if s.amount == 0 or s.h < 0 then s.h, s.l = 0, 0 end
end

-- Charges what was spent of a share, and takes back what is not needed of it.
local function report(a, e, asks)
  for j = 1, #a do
    local m, s, c = a[j], e[j], asks[j]
    spend_share(m, { amount = c.spent, h = c.spent_h, l = c.spent_l })
    spend_share(m, { amount = c.over, h = c.over_h, l = c.over_l })
    shrink(m, s, c.spent, c.spent_h, c.spent_l)
    shrink(m, s, c.back, c.back_h, c.back_l)
    if c.back > 0 then a.gave = true end
  end
  sum_shares(a)
end

-- A share ends with the calendar window that it is of.
local function lease_end(a, ttl)
  local till = now + ttl
  for j = 1, #a do
    if a[j].of.kind == 'f' then till = min(till, a[j].of.to - 1) end
  end
  return till
end

-- Whether the share grew, and whether somebody was denied for it before: the same each time that the report comes.
local function lease_said(e) return put('<c1BBI7', 'L', e.grown % 2, floor(e.grown / 2), e.till) end

local AHEAD, KNOWN = 1, 2

-- Tells what was spent of a share, gives some of it back, and asks for more: a lease.
function f.lease(op, q)
  local at, ttl, turn, flags
  at, ttl, turn, flags, q = get('<I2I7I7B', op, q)
  local a = accounts[at]
  local asks = read_report(a, op, q)
  local e = lease_of(a)
  if e and e.turn >= turn then return e.turn == turn and lease_said(e) or 'O' end
  local ahead, known = flags % 2 == AHEAD, flags >= KNOWN
  if not e then
    -- It has ended, and all of it was charged: the caller has nothing left.
    if known then return 'X' end
    e = { node = node, asked = 0 }
    for j = 1, #a do e[j] = { amount = 0, h = 0, l = 0 } end
    if #a.leases >= 250 then
      e.grown, e.till = 0, now
      return lease_said(e)
    end
    if not a.leases[1] then a.leases = {} end
    table.insert(a.leases, e)
  end
  a.dirty = true
  report(a, e, asks)
  -- Where somebody waits or was denied there is no plenty.
  local grown = (ahead or (e.asked == 0 and not a.line[1])) and may_grow(a, asks)
  if grown then
    for j = 1, #a do
      local s, c = e[j], asks[j]
      s.amount = s.amount + c.amount
      if a[j].of.kind == 'b' then f.add(s, c.h, c.l, a[j].of.base) end
    end
    sum_shares(a)
  elseif ahead then
    f.recall(a)
  end
  e.till, e.turn, e.grown = lease_end(a, ttl), turn, (grown and 1 or 0) + 2 * e.asked
  e.asked = 0
  return lease_said(e)
end
