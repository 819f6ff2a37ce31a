
-- Asking -----------------------------------------------------------------------------------------------------

function f.fits(m, amount, ch, cl)
  local of, shared = m.of, m.shared
  if of.kind ~= 'b' then
    return f.used(m) + amount + (shared and shared.amount or 0) <= of.amount
  end
  local h, l, base = m.h, m.l, of.base
  if h < now then h, l = now, 0 end
  h, l = h + ch, l + cl
  if shared then h, l = h + shared.h, l + shared.l end
  while l >= base do h, l = h + 1, l - base end
  local most = now + of.bh
  return h < most or (h == most and l <= of.bl)
end

-- Reads what is asked of which accounts. One ask is an account, and of each of its limits an amount and its cost.
function f.read_asks(op, q)
  local n, at
  local asks = {}
  n, q = get('<I2', op, q)
  for i = 1, n do
    at, q = get('<I2', op, q)
    local a = accounts[at]
    local ask = { a, get(a.rule.ask, op, q) }
    q = ask[#ask]
    asks[i] = ask
  end
  return asks, q
end

-- Whether all fits and nobody is overtaken; looks at all buckets. Whoever holds a share of what does not fit is asked for it.
function f.may_go(asks, order)
  local free = true
  for i = 1, #asks do
    local ask = asks[i]
    local a = ask[1]
    local enforced = a.rule.enforced
    for j = 1, #a do
      local m, amount = a[j], ask[3 * j - 1]
      if m.n and m.n > 0 then f.look(m) end
      if enforced and amount > 0 then
        if not f.fits(m, amount, ask[3 * j], ask[3 * j + 1]) then
          free = false
          if m.shared then f.recall(a) end
        elseif a.line[1] and f.is_behind(a, j, order) then
          free = false
        end
      end
    end
  end
  return free
end

function f.next_seq(asks)
  local seq = now
  for i = 1, #asks do seq = max(seq, asks[i][1].seq + 1) end
  return seq
end

-- Slots are kept in sets of their own, to which the server may refuse to write: what is done to them goes before all else.
local function hold_slots(asks, id, part, dl)
  for i = 1, #asks do
    local ask = asks[i]
    local a = ask[1]
    for j = 1, a.zset and #a or 0 do
      local m, amount = a[j], ask[3 * j - 1]
      if m.of.kind == 'g' and amount > 0 then
        f.hold_slot(a, m, amount, id, part, dl)
        f.charge(m, amount)
        a.dirty = true
      end
    end
  end
end

-- Charges all that may go as part number `part` of a reservation.
function f.hold_all(asks, id, part, seq, dl)
  hold_slots(asks, id, part, dl)
  for i = 1, #asks do
    local ask = asks[i]
    local a = ask[1]
    a.seq, a.dirty = seq, true
    for j = 1, #a do
      local m, amount = a[j], ask[3 * j - 1]
      local kind = m.of.kind
      if kind == 'b' then
        f.open_bucket(m, seq, dl, ask[3 * j], ask[3 * j + 1])
        f.hold(m, amount, dl)
      elseif kind ~= 'g' then
        f.charge(m, amount)
        f.hold(m, amount, dl)
      end
    end
  end
end

-- The deadlines that a demand on slots waits for if it does not fit.
function f.slot_ends(asks)
  local out = ''
  for _, ask in ipairs(asks) do
    local a = ask[1]
    for j = 1, a.zset and #a or 0 do
      if a[j].of.kind == 'g' then out = out .. f.ends_of(a, a[j], ask[3 * j - 1]) end
    end
  end
  return out
end

-- A reservation made before under the same idempotency key; not the one that is asked for, whose answer was lost.
function f.namesake(at, own)
  local id = call('GET', KEYS[at])
  if not id or id == own then return end
  local key = sub(KEYS[at], 1, -18) .. 'r' .. id
  local raw = call('GET', key)
  if not raw then return end
  if byte(raw) == 1 then call('SETRANGE', key, 1, char(1)) end
  return 'N' .. id .. raw
end

function f.made_before(rec)
  local raw = call('GET', KEYS[rec])
  return raw and 'P' .. raw
end

-- What a denied caller leaves behind: its place in a line, or a mark on what it was denied for.
local function stay_outside(asks, stand, e)
  if stand > 0 then return f.enter_line(accounts[stand], e.limit, e) end
  for i = 1, #asks do
    local a = asks[i][1]
    if not a.watched then a.watched, a.dirty = true, true end
  end
end

-- The answer for one that was admitted before. By a call whose answer was lost one behind it may have come to stand in its line.
local function was_admitted(said, line, limit, order, ...)
  if line and not f.is_past(line, limit, order) then f.hand_on(line, limit, ...) end
  return said
end

function f.reserve(op, q, knocks)
  local rec, name, stand, ttl, keep, blob, asks
  rec, name, stand, ttl, keep, blob, q = get('<I2I2I2I7I7I3c0', op, q)
  asks, q = f.read_asks(op, q)
  local order, limit = get('<I7B', op, q)
  local queued, stay, turn, after, after_queued, follows
  if stand > 0 then
    queued, stay, turn, after, after_queued, follows = get('<I7I7I7I7I7B', op, q + 8)
  end
  -- Nobody is asked for before those of its process who came before it have gone.
  if follows == 1 and not f.leads(accounts[stand], limit, order) then return f.made_before(rec) or 'T' end
  local id = sub(KEYS[rec], -12)
  local known = name > 0 and f.namesake(name, id)
  local free = not known and f.may_go(asks, order)
  -- It may have been admitted by a call whose answer was lost.
  known = known or not free and f.made_before(rec)
  local line = stand > 0 and accounts[stand]
  if known then return was_admitted(known, line, limit, order, after, after_queued, stay) end
  if not free then
    stay_outside(asks, stand, stand > 0 and {
      limit = limit, node = node, order = order, queued = queued, till = now + stay, turn = turn,
    })
    return 'B' .. f.slot_ends(asks)
  end
  if knocks then return 'F' end
  local seq, dl = f.next_seq(asks), now + ttl
  local raw = put('<BBI2I7I7I7', 1, 0, 1, dl, now, seq) .. blob
  local kept = ceil(ttl / 1000) + keep
  if not call('SET', KEYS[rec], raw, 'NX', 'PX', kept) then
    return was_admitted(f.made_before(rec), line, limit, order, after, after_queued, stay)
  end
  unfinished = KEYS[rec]
  if name > 0 then call('SET', KEYS[name], id, 'PX', kept) end
  f.hold_all(asks, id, 1, seq, dl)
  unfinished = nil
  if line then f.hand_on(line, limit, after, after_queued, stay) end
  return put('<c1I7I7I7', 'A', dl, now, seq)
end

-- The same without taking anything: one who is denied takes a place in line all the same.
function f.knock(op, q) return f.reserve(op, q, true) end
