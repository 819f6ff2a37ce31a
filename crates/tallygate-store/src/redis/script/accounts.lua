
-- Accounts ---------------------------------------------------------------------------------------------------

local NOBODY = {}

function f.fresh(of)
  if of.kind == 'b' then
    return { nil, of = of, held = 0, dl = 0, h = 0, l = 0, n = 0, open = 0, seq = 0 }
  elseif of.kind == 's' then
    return { of = of, held = 0, dl = 0 }
  end
  return { of = of, held = 0, dl = 0, sum = 0, current = 0, first = 0, last = 0 }
end

function f.read_bucket(of, raw, q)
  local h, l, a, z, open, g, dl, amount, n
  amount, h, l, n, q = get('<I7I7I6B', raw, q)
  local m = { nil, nil, of = of, held = 0, dl = 0, h = h, l = l, n = n, open = 0, seq = 0 }
  if n == ALONE then
    m.held, m.dl, m.seq, g, q = get('<I7I7I7I7', raw, q)
    m.n, m.open = 1, 1
    m[1] = { h = h, l = l, a = 0, z = 0, open = 1, g = g, dl = m.dl }
  elseif n > 0 then
    m.held, m.dl, m.open, m.seq, q = get('<I7I7I4I7', raw, q)
    for i = 1, n do
      h, l, a, z, open, g, dl, q = get('<I7I6I7I7I4I7I7', raw, q)
      m[i] = { h = h, l = l, a = a, z = z, open = open, g = g, dl = dl }
    end
  end
  if amount ~= of.amount then f.rescale(m, amount) end
  return m, q
end

function f.read_limit(of, raw, q)
  local kind = of.kind
  if kind == 'b' then return f.read_bucket(of, raw, q) end
  local x, y, z, n
  if kind == 'g' then
    x, y, z, q = get('<I7I7I7', raw, q)
    return { of = of, held = 0, dl = 0, sum = x, first = y, last = z }, q
  end
  x, y, q = get('<I7I7', raw, q)
  if y <= now then x, y = 0, 0 end
  local m = { of = of, held = x, dl = y }
  if kind == 'f' then
    m.current, m.sum, q = get('<I7I7', raw, q)
  else
    n, q = get('<B', raw, q)
    for i = 1, n do
      x, y, z, q = get('<I7I7I7', raw, q)
      m[i] = { from = x, last = y, sum = z }
    end
  end
  return m, q
end

-- Reads what is kept of an account besides its limits.
function f.read_tail(a, raw, q)
  local size = #raw
  while q <= size do
    local tag = sub(raw, q, q)
    q = q + 1
    if tag == 'w' then
      a.watched = true
    elseif tag == 'l' then
      q = f.read_line(a, raw, q)
    elseif tag == 's' then
      q = f.read_shares(a, raw, q)
    else
      error('a later version kept it')
    end
  end
end

function f.open_account(key, rule, gauge, raw)
  local q = 1
  local a = { nil, nil, key = key, rule = rule, raw = raw, seq = 0, line = NOBODY, leases = NOBODY, dirty = false, gave = false }
  if gauge > 0 then a.zset = KEYS[gauge] end
  if not raw then
    for j = 1, #rule do a[j] = f.fresh(rule[j]) end
    return a
  end
  for j = 1, #rule do
    a[j], q = f.read_limit(rule[j], raw, q)
    local m = a[j]
    if m.by then a.dirty = true end
    if m.seq and a.seq < m.seq then a.seq = m.seq end
  end
  if q <= #raw then f.read_tail(a, raw, q) end
  return a
end

-- A bucket as it is kept, and until when it is not as good as fresh.
function f.write_bucket(m)
  local amount, h, l, n = m.of.amount, m.h, m.l, m.n
  if n == 0 then
    if h < now or (h == now and l == 0) then return put('<I7I7I6B', amount, 0, 0, 0), 0 end
    return put('<I7I7I6B', amount, h, l, 0), h + 1
  end
  local e = m[1]
  if n == 1 and m.open == 1 and e.open == 1 and e.a == 0 and e.z == 0 and e.dl == m.dl then
    return put('<I7I7I6BI7I7I7I7', amount, h, l, ALONE, m.held, m.dl, m.seq, e.g), max(h + 1, m.dl)
  end
  local raw = put('<I7I7I6BI7I7I4I7I7I6I7I7I4I7I7', amount, h, l, n, m.held, m.dl, m.open, m.seq,
    e.h, e.l, e.a, e.z, e.open, e.g, e.dl)
  for i = 2, n do
    e = m[i]
    raw = raw .. put('<I7I6I7I7I4I7I7', e.h, e.l, e.a, e.z, e.open, e.g, e.dl)
  end
  return raw, max(h + 1, m.dl)
end

function f.write_limit(m)
  local of = m.of
  if of.kind == 'b' then return f.write_bucket(m) end
  if of.kind == 'g' then
    return put('<I7I7I7', m.sum, m.first, m.last), m.sum > 0 and f.slots_till(m) or 0
  end
  if of.kind == 'f' then
    local live = m.current == of.number and m.sum > 0
    return put('<I7I7I7I7', m.held, m.dl, m.current, m.sum), max(live and of.to or 0, m.dl)
  end
  f.drop_gone(m)
  local raw, till = put('<I7I7B', m.held, m.dl, #m), m.dl
  for i = 1, #m do
    local cell = m[i]
    raw = raw .. put('<I7I7I7', cell.from, cell.last, cell.sum)
    till = max(till, cell.sum > 0 and cell.last + of.every or cell.from + of.width)
  end
  return raw, till
end

-- The account as it is kept, and until when it must be and whether it was, if it changed.
function f.close(a)
  if a.gave and a.watched then f.tell_room(a) end
  if (a.gave or a.moved) and a.line[1] then f.wake(a) end
  if not a.dirty then return a.raw end
  local raw, till = f.write_limit(a[1])
  for j = 2, #a do
    local more, mores = f.write_limit(a[j])
    raw = raw .. more
    if till < mores then till = mores end
  end
  if a.watched then raw = raw .. 'w' end
  if a.line[1] or a.leases[1] then
    local more, mores = f.write_others(a)
    raw = raw .. more
    if till < mores then till = mores end
  end
  return raw, till, a.raw
end
