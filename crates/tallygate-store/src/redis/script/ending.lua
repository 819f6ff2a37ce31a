
-- Ending -----------------------------------------------------------------------------------------------------

-- The record of what was withdrawn before it came.
local WITHDRAWN = char(9)

-- An open reservation; none if it has ended.
function f.read_record(raw)
  if byte(raw) ~= 1 then return end
  local flags, n, dl, at, seq, q
  flags, n, dl, at, seq, q = get('<BI2I7I7I7', raw, 2)
  local r = { { at = at, seq = seq }, flags = flags, dl = dl }
  for i = 2, n do
    at, seq, q = get('<I7I7', raw, q)
    r[i] = { at = at, seq = seq }
  end
  return r
end

-- How far a limit is past what it gives, in its own numbers.
function f.excess(m)
  local of = m.of
  if of.kind ~= 'b' then return put('<I7I6', max(0, f.used(m) - of.amount), 0) end
  local h, l = m.h - now - of.bh, m.l - of.bl
  if l < 0 then h, l = h - 1, l + of.base end
  return h < 0 and NOTHING or put('<I7I6', h, l)
end

-- What is told of a limit of a part that ends takes so many bytes.
local TOLD = 34

-- Frees the slots of the parts from `first` to `last` in `n` accounts, before all else: the server may refuse.
function f.free_slots(r, n, first, last, id, op, q)
  local at
  for _ = 1, n do
    at, q = get('<I2', op, q)
    local a = accounts[at]
    local size = TOLD * #a
    for part = first, a.zset and last or first - 1 do
      for j = 1, #a do
        local told = q + size * (part - first) + TOLD * (j - 1)
        if a[j].of.kind == 'g' then f.free_slot(a, a[j], id, part, (get('<I7', op, told)), r.dl) end
      end
    end
    q = q + size * (last - first + 1)
  end
end

-- Replaces what one part of a reservation took of an account by what was used; reads it from `op`. Its slots are free already.
function f.settle_part(a, r, part, op, q)
  local held, real, ch, cl, g
  for j = 1, #a do
    local m = a[j]
    local kind = m.of.kind
    held, real, ch, cl, g, q = get('<I7I7I7I6I7', op, q)
    if kind == 'b' then
      f.settle_bucket(m, r[part].seq, real > held, ch, cl, g, r.dl <= now)
    elseif kind ~= 'g' then
      f.settle(m, r[part].at, held, real)
    end
    if kind ~= 'g' then m.held = max(0, m.held - held) end
    if real < held then a.gave = true end
  end
  a.dirty = true
  return q
end

function f.finish(op, q)
  local rec, name, outcome, parts, keep, receipt, n, at
  rec, name, outcome, parts, keep, receipt, n, q = get('<I2I2BI2I7I3c0I2', op, q)
  local late = outcome >= 16
  if late then outcome = outcome - 16 end
  local withdrawn = outcome == 9
  local raw = call('GET', KEYS[rec])
  if not raw or raw == WITHDRAWN then
    -- It may be on its way still: it shall find its place taken.
    if withdrawn then call('SET', KEYS[rec], WITHDRAWN, 'PX', keep) end
    return 'U'
  end
  local r = f.read_record(raw)
  if not r or (r.dl <= now and not late) then return 'O' .. raw end
  if #r ~= parts then return 'V' .. raw end
  if withdrawn and r.flags == 1 then return 'O' .. raw end
  local over = {}
  f.free_slots(r, n, 1, parts, sub(KEYS[rec], -12), op, q)
  for _ = 1, n do
    at, q = get('<I2', op, q)
    local a = accounts[at]
    for part = 1, parts do q = f.settle_part(a, r, part, op, q) end
    for j = 1, #a do over[#over + 1] = f.excess(a[j]) end
  end
  if withdrawn then
    call('DEL', KEYS[rec])
    if name > 0 then call('DEL', KEYS[name]) end
    return 'E'
  end
  local debts = concat(over)
  if debts == NOTHING:rep(#over) then debts = '' end
  raw = put('<BB', outcome, r.flags) .. sub(receipt, 3) .. debts
  call('SET', KEYS[rec], raw, 'PX', keep)
  if name > 0 then call('PEXPIRE', KEYS[name], keep) end
  return 'E' .. raw
end
