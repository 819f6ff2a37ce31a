
-- Extending --------------------------------------------------------------------------------------------------

local function record(flags, parts, dl, blob)
  local out = { put('<BBI2I7', 1, flags, #parts, dl) }
  for i, part in ipairs(parts) do out[i + 1] = put('<I7I7', part.at, part.seq) end
  out[#out + 1] = blob
  return concat(out)
end

local function postpone_bucket(m, r, dl)
  if m.n == 0 then return end
  m.dl = max(m.dl, dl)
  for part = 1, #r do
    local i = f.epoch_of(m, r[part].seq)
    if i then m[i].dl = max(m[i].dl, dl) end
  end
end

local function postpone_slots(a, m, held, r, id, dl)
  for part = 1, #r do
    -- It was freed if the clock was set back since.
    if held[part] > 0 and f.hold_slot(a, m, held[part], id, part, dl) == 1 then m.sum = m.sum + held[part] end
  end
  -- A deadline may have come nearer.
  a.gave = true
  if r.dl >= m.last and dl < r.dl then f.set_last(m, a.zset, f.deadline_at(a.zset, -1)) end
end

-- Slots first, as everywhere: the server may refuse.
local function postpone(asks, r, id, dl)
  for _, ask in ipairs(asks) do
    local a = ask[1]
    for j = 1, a.zset and #a or 0 do
      if a[j].of.kind == 'g' then postpone_slots(a, a[j], ask.parts[j], r, id, dl) end
    end
  end
  for _, ask in ipairs(asks) do
    local a = ask[1]
    a.dirty = true
    for j = 1, #a do
      local m = a[j]
      if m.of.kind == 'b' then
        postpone_bucket(m, r, dl)
      elseif m.of.kind ~= 'g' then
        m.dl = max(m.dl, dl)
      end
    end
  end
end

-- What each part of the reservation holds of each limit, where slots are to be moved.
local function read_parts(asks, parts, op, q)
  for _, ask in ipairs(asks) do
    local a = ask[1]
    ask.parts = {}
    for j = 1, #a do
      local held = {}
      if a[j].of.kind == 'g' then
        for part = 1, parts do held[part], q = get('<I7', op, q) end
      end
      -- What is added moves by itself.
      held[parts + 1] = 0
      ask.parts[j] = held
    end
  end
end

function f.extend(op, q)
  local rec, name, parts, more, ttl, keep, blob
  rec, name, parts, more, ttl, keep, q = get('<I2I2I2BI7I7', op, q)
  blob, q = get('<I3c0', op, q)
  local asks
  asks, q = f.read_asks(op, q)
  local raw = call('GET', KEYS[rec])
  if not raw or byte(raw) == 9 then return 'U' end
  local r = f.read_record(raw)
  if not r or r.dl <= now then return 'O' .. raw end
  if more == 1 and #r == parts + 1 and sub(raw, -8) == sub(blob, -8) then
    -- Sent again.
    return put('<c1I7I7I7', 'A', r.dl, r[#r].at, r[#r].seq)
  end
  if #r ~= parts then return 'V' .. raw end
  local id = sub(KEYS[rec], -12)
  local dl = ttl > 0 and now + ttl or r.dl
  read_parts(asks, parts, op, q)
  if more == 1 then
    if not f.may_go(asks, 0) then return 'B' .. f.slot_ends(asks) end
  end
  if ttl > 0 then postpone(asks, r, id, dl) end
  if more == 1 then
    local seq = f.next_seq(asks)
    f.hold_all(asks, id, parts + 1, seq, dl)
    r[parts + 1] = { at = now, seq = seq }
  end
  local kept = ceil((dl - now) / 1000) + keep
  call('SET', KEYS[rec], record(r.flags, r, dl, blob), 'PX', kept)
  if name > 0 then call('PEXPIRE', KEYS[name], kept) end
  return put('<c1I7I7I7', 'A', dl, r[#r].at, r[#r].seq)
end

-- Gives back the last part of a reservation, which was to extend it and does not fit elsewhere.
function f.retract(op, q)
  local rec, parts, keep, blob, n, at
  rec, parts, keep, blob, n, q = get('<I2I2I7I3c0I2', op, q)
  local mark = sub(op, -8)
  local raw = call('GET', KEYS[rec])
  if not raw or byte(raw) ~= 1 or sub(raw, -8) ~= mark then return 'U' end
  local r = f.read_record(raw)
  if r.dl <= now or #r ~= parts then return 'U' end
  f.free_slots(r, n, parts, parts, sub(KEYS[rec], -12), op, q)
  for _ = 1, n do
    at, q = get('<I2', op, q)
    q = f.settle_part(accounts[at], r, parts, op, q)
  end
  r[parts] = nil
  call('SET', KEYS[rec], record(r.flags, r, r.dl, blob), 'PX', ceil((r.dl - now) / 1000) + keep)
  return 'E'
end

function f.peek(op, q) return 'S' .. f.slot_ends((f.read_asks(op, q))) end

function f.look_up(op, q) return 'S' .. (call('GET', KEYS[(get('<I2', op, q))]) or '') end
