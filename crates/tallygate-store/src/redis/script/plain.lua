
-- Plainly ----------------------------------------------------------------------------------------------------
-- Most calls reserve of plain accounts on which nothing is open, or settle what alone is open there. Both go from text to
-- text, and do what the other files would; whatever else there is to them is left to those: the answer is nil then.

-- Accounts as an operation will leave them.
local ats, afters, ends = {}, {}, {}

local function leave_so(n)
  for i = 1, n do
    local at = ats[i]
    raws[at], tills[at] = afters[i], ends[i]
  end
end

-- What is kept of a bucket at rest once an amount is open on it, and until when; nil if that is not so plain.
local function opened(of, amount, ch, cl, h, l, dl, is_bound)
  if h < now then h, l = now, 0 end
  h, l = h + ch, l + cl
  if l >= of.base then h, l = h + 1, l - of.base end
  local most = now + of.bh
  if is_bound and (h > most or (h == most and l > of.bl)) then return end
  return put('<I7I7I6BI7I7I7I7', of.amount, h, l, ALONE, amount, dl, now, cl > 0 and ch + 1 or ch), h < dl and dl or h + 1
end

-- The same of all limits of an account, what is asked of which is read from `op`.
local function open_all(i, rule, raw, op, q, dl)
  local till, place, enforced, after = 0, 1, rule.enforced
  for j = 1, #rule do
    local of, h, l = rule[j], 0, 0
    local amount, ch, cl, kept, n, piece, last
    amount, ch, cl, q = get('<I7I7I6', op, q)
    if raw then
      kept, h, l, n, place = get('<I7I7I6B', raw, place)
      if n ~= 0 or kept ~= of.amount then return end
    end
    piece, last = opened(of, amount, ch, cl, h, l, dl, enforced and amount > 0)
    if not piece then return end
    after = after and after .. piece or piece
    if till < last then till = last end
  end
  afters[i], ends[i] = after, till
  return q
end

-- A record until `deadline`, and what is said of it: most of a call have one.
local deadline, begun, said

function f.reserve_plainly(op)
  local rec, name, stand, ttl, keep, blob, n, q = get('<I2I2I2I7I7I2c0I2', op, 2)
  if name > 0 or stand > 0 or raws[rec] == nil then return end
  local dl, at = now + ttl
  for i = 1, n do
    at, q = get('<I2', op, q)
    local rule = plain[at]
    if not rule then return end
    ats[i], q = at, open_all(i, rule, raws[at], op, q, dl)
    if not q then return end
  end
  if raws[rec] then return f.made_before(rec) end
  if dl ~= deadline then
    deadline, begun, said = dl, put('<BBI2I7I7I7', 1, 0, 1, dl, now, now), put('<c1I7I7I7', 'A', dl, now, now)
  end
  write(KEYS[rec], begun .. blob, ceil(ttl / 1000) + keep)
  raws[rec] = nil
  leave_so(n)
  return said
end

-- A bucket on which nothing is open any more, and until when it is kept; nil if more is open on it, or it is in debt.
-- Reads it from `raw` at `place`, and what was used from `op`.
local function closed(of, raw, place, n, op, q, seq)
  local kept, h, l, dl, open, a, z, _
  if n == ALONE then
    kept, h, l, _, _, dl = get('<I7I7I6BI7I7', raw, place)
    open, a, z = 1, 0, 0
  else
    kept, _, _, _, _, dl, open, _, h, l, a, z = get('<I7I7I6BI7I7I4I7I7I6I7I7', raw, place)
  end
  if open ~= 1 or dl <= now or kept ~= of.amount then return end
  local held, real, ch, cl = get('<I7I7I7I6', op, q)
  if real > held then
    if a < seq then
      h, l = h + ch, l + cl
      if l >= of.base then h, l = h + 1, l - of.base end
    end
  elseif z < seq then
    h, l = h - ch, l - cl
    if l < 0 then h, l = h - 1, l + of.base end
  end
  if h < now or (h == now and l == 0) then return put('<I7I7I6B', kept, 0, 0, 0), 0 end
  local most = now + of.bh
  if h > most or (h == most and l > of.bl) then return end
  return put('<I7I7I6B', kept, h, l, 0), h + 1
end

local function close_all(i, rule, raw, op, q, seq)
  local till, place, after = 0, 1
  for j = 1, #rule do
    local n = byte(raw, place + 20)
    if n == 0 then return end
    local piece, last = closed(rule[j], raw, place, n, op, q, seq)
    if not piece then return end
    after = after and after .. piece or piece
    place, q = place + (n == ALONE and 49 or 91), q + 34
    if till < last then till = last end
  end
  afters[i], ends[i] = after, till
  return q
end

function f.finish_plainly(op)
  local rec, name, outcome, parts, keep, receipt, count, q = get('<I2I2BI2I7I2c0I2', op, 2)
  if name > 0 or outcome >= 9 or parts ~= 1 then return end
  local raw = raws[rec]
  if not raw or byte(raw) ~= 1 then return end
  local flags, n, dl, at, seq = get('<BI2I7I7I7', raw, 2)
  if flags > 0 or n ~= 1 or dl <= now then return end
  for i = 1, count do
    at, q = get('<I2', op, q)
    local rule = plain[at]
    if not rule or not raws[at] then return end
    ats[i], q = at, close_all(i, rule, raws[at], op, q, seq)
    if not q then return end
  end
  write(KEYS[rec], receipt, keep)
  raws[rec] = nil
  leave_so(count)
  return 'D'
end
