
-- Plainly ----------------------------------------------------------------------------------------------------
-- Most calls reserve of plain accounts on which nothing is open, or settle what alone is open there. Both go from text to
-- text, and do what the other files would; whatever else there is to them is left to those: the answer is nil then.

local OPEN = '<I7I7I6BI7I7I4I7I7I6I7I7I4I7I7'

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
  local g = cl > 0 and ch + 1 or ch
  return put(OPEN, of.amount, h, l, 1, amount, dl, 1, now, h, l, 0, 0, 1, g, dl), max(h + 1, dl)
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

function f.reserve_plainly(op)
  local rec, name, ttl, keep, _, stand, _, q = get('<I2I2I7I7I7I2B', op, 2)
  if name > 0 or stand > 0 then return end
  local blob, n, at
  blob, n, q = get('<I2c0I2', op, q)
  local dl = now + ttl
  for i = 1, n do
    at, q = get('<I2', op, q)
    if not plain[at] then return end
    ats[i], q = at, open_all(i, rule_of[at], raws[at], op, q, dl)
    if not q then return end
  end
  local raw = put('<BBI2I7I7I7', 1, 0, 1, dl, now, now) .. blob
  if not call('SET', KEYS[rec], raw, 'NX', 'PX', ceil(ttl / 1000) + keep) then return f.made_before(rec) end
  leave_so(n)
  return put('<c1I7I7I7', 'A', dl, now, now)
end

-- A bucket on which nothing is open any more, how far it is past what it gives, and until when it is kept; nil if more is
-- open on it. Reads it from `raw` at `place`, and what was used from `op`.
local function closed(of, raw, place, op, q, seq)
  if byte(raw, place + 20) ~= 1 then return end
  local kept, _, _, _, _, dl, open, _, h, l, a, z = get('<I7I7I6BI7I7I4I7I7I6I7I7', raw, place)
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
  if h < now or (h == now and l == 0) then return put('<I7I7I6B', kept, 0, 0, 0), NOTHING, 0 end
  local past, parts = h - now - of.bh, l - of.bl
  if parts < 0 then past, parts = past - 1, parts + of.base end
  return put('<I7I7I6B', kept, h, l, 0), past < 0 and NOTHING or put('<I7I6', past, parts), h + 1
end

local function close_all(i, rule, raw, op, q, seq)
  local till, place, after, over = 0, 1
  for j = 1, #rule do
    local piece, excess, last = closed(rule[j], raw, place, op, q, seq)
    if not piece then return end
    after, over = after and after .. piece or piece, over and over .. excess or excess
    place, q = place + 91, q + 34
    if till < last then till = last end
  end
  afters[i], ends[i] = after, till
  return q, over
end

function f.finish_plainly(op)
  local rec, name, outcome, parts, keep, blob, count, q = get('<I2I2BI2I7I2c0I2', op, 2)
  if name > 0 or outcome >= 9 or parts ~= 1 then return end
  local raw = raws[rec]
  if not raw or byte(raw) ~= 1 then return end
  local flags, n, dl, _, seq = get('<BI2I7I7I7', raw, 2)
  if n ~= 1 or dl <= now then return end
  local at, over, more
  for i = 1, count do
    at, q = get('<I2', op, q)
    if not (plain[at] and raws[at]) then return end
    ats[i], q, more = at, close_all(i, rule_of[at], raws[at], op, q, seq)
    if not q then return end
    over = over and over .. more or more
  end
  local receipt = put('<BB', outcome, flags) .. blob .. (over or '')
  call('SET', KEYS[rec], receipt, 'PX', keep)
  raws[rec] = receipt
  leave_so(count)
  return 'E' .. receipt
end
