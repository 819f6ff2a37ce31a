-- Tallygate's decisions on Redis and Valkey: one call, many operations, each all or nothing.
--
-- KEYS    accounts first, in the order of their descriptions; then whatever operations name by number.
-- ARGV[1] who asks, and how each account's limits count; ARGV[2..] one operation each. Layouts: script.rs.
-- Answer  the time; each account as it stands now; the answer to each operation. The time alone, and nothing is
--         done, when a calendar window is not the one the caller thinks.
--
-- An instant is microseconds since 1970. The level of a bucket is the instant at which it is full again, and is
-- finer: `h` microseconds and `l` parts, `base` of which make one. Costs come ready made from the caller's exact
-- arithmetic, so that nothing multiplies here and every number stays exact below 2^53.
local call, sub, byte, char, concat = redis.call, string.sub, string.byte, string.char, table.concat
local get, put = struct.unpack, struct.pack
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
local EPOCHS, MOST_ENDS = 16, 256

local node, alone, prefix, count, p = get('<c8BBc0I2', ARGV[1])
local accounts, alive_nodes = {}, { [node] = true }

-- How limits count -------------------------------------------------------------------------------------------

for i = 1, count do
  local a = { key = KEYS[i] }
  local n
  n, a.enforced, a.gauge, p = get('<BBI2', ARGV[1], p)
  for j = 1, n do
    local kind = sub(ARGV[1], p, p)
    local m = { kind = kind }
    p = p + 1
    if kind == 'b' then
      m.amount, m.base, m.bh, m.bl, p = get('<I7I6I7I6', ARGV[1], p)
    elseif kind == 's' then
      m.amount, m.every, m.width, p = get('<I7I7I7', ARGV[1], p)
    elseif kind == 'f' then
      m.amount, m.number, m.from, m.to, p = get('<I7I7I7I7', ARGV[1], p)
      if now < m.from or now >= m.to then return { put('<I7', now) } end
    else
      m.amount, p = get('<I7', ARGV[1], p)
    end
    a[j] = m
  end
  accounts[i] = a
end

-- Buckets ----------------------------------------------------------------------------------------------------
-- While reservations are open a bucket keeps what its level would be had it last been full at some instant, for each
-- stretch of instants between two reservations (an epoch), and its level is the highest of them. A settlement counts from
-- the moment of its reservation: it moves the epochs before that moment and no other. history.rs in the core has the
-- argument. An epoch that can never become the highest is left out: one that is not above an earlier one even if all
-- that open reservations between them hold (`g`, in microseconds and rather too much) were given back. Past EPOCHS of
-- them two become one that loses least by being moved by what makes it higher and not by what makes it lower.
--
-- An epoch has those reservations before it whose number is `z` at most; one made of several is not moved down by those
-- past `a`. Between it and the next `open` reservations are open, the last of them until `dl`.

local function add(e, ch, cl, base)
  local l = e.l + cl
  e.h = e.h + ch
  if l >= base then
    e.h, l = e.h + 1, l - base
  end
  e.l = l
end

local function take(e, ch, cl, base)
  local l = e.l - cl
  e.h = e.h - ch
  if l < 0 then
    e.h, l = e.h - 1, l + base
  end
  e.l = l
end

local function higher(a, b) return a.h > b.h or (a.h == b.h and a.l > b.l) end

local function raise_to_now(e)
  if e.h < now then e.h, e.l = now, 0 end
end

local function set_level(m)
  local top = m[1]
  for i = 2, m.n do
    if higher(m[i], top) then top = m[i] end
  end
  m.h, m.l = top.h, top.l
end

local function remove_epoch(m, i)
  table.remove(m, i)
  m.n = m.n - 1
end

-- Makes epoch i and the next one.
local function join(m, i)
  local e, f = m[i], m[i + 1]
  if higher(f, e) then e.h, e.l = f.h, f.l end
  e.z, e.open, e.g, e.dl = f.z, f.open, f.g, f.dl
  remove_epoch(m, i + 1)
end

-- Lets epoch i stand for the next one too, which it is above.
local function swallow(m, i)
  local e, f = m[i], m[i + 1]
  e.open, e.g, e.dl = e.open + f.open, e.g + f.g, max(e.dl, f.dl)
  remove_epoch(m, i + 1)
end

local function swallow_lower(m)
  local i = 1
  while i < m.n - 1 do
    if m[i].h - m[i].g > m[i + 1].h then swallow(m, i) else i = i + 1 end
  end
end

-- Joins the two epochs that differ least by what may still be given back between them.
local function join_closest(m)
  local least, closest, at
  for i = 1, m.n - 2 do
    local e = m[i]
    local gap = e.h - m[i + 1].h
    local loss = max(0, min(gap, e.g))
    gap = math.abs(gap)
    if not at or loss < least or (loss == least and gap < closest) then least, closest, at = loss, gap, i end
  end
  if at > 1 then
    local before, e = m[at - 1], m[at]
    before.open, before.g, before.dl = before.open + e.open, before.g + e.g, max(before.dl, e.dl)
  end
  join(m, at)
end

local function rest(m)
  for i = 1, m.n do m[i] = nil end
  m.n, m.open, m.held, m.dl = 0, 0, 0, 0
end

-- Ends what is past its deadline, and joins the epochs that can never again move apart.
local function close_epochs(m)
  for i = m.n, 1, -1 do
    local e = m[i]
    if e.open > 0 and e.dl <= now then
      m.open, e.open = m.open - e.open, 0
    end
    if e.open == 0 then
      e.g = 0
      if i < m.n then join(m, i) else e.z = m.seq end
    end
  end
end

-- Whether an epoch that began now would stay below the others whatever is given back.
local function stays_below(m)
  local g = 0
  for i = m.n, 1, -1 do
    g = g + m[i].g
    if m[i].h - g >= now then return true end
  end
end

-- Takes the instant into the newest epoch.
local function look(m)
  if m.n == 0 then return end
  if m.dl <= now then return rest(m) end
  close_epochs(m)
  if m[m.n].open == 0 then
    raise_to_now(m[m.n])
  elseif not stays_below(m) then
    m.n = m.n + 1
    m[m.n] = { h = now, l = 0, a = m.seq, z = m.seq, open = 0, g = 0, dl = 0 }
    swallow_lower(m)
    if m.n > EPOCHS then join_closest(m) end
  end
  set_level(m)
end

local function charge_bucket(m, ch, cl)
  look(m)
  if m.n == 0 then
    raise_to_now(m)
    return add(m, ch, cl, m.base)
  end
  for i = 1, m.n do add(m[i], ch, cl, m.base) end
  set_level(m)
end

-- Charges a bucket that was looked at for a reservation.
local function open_bucket(m, seq, dl, ch, cl)
  if m.n == 0 then
    raise_to_now(m)
    m[1] = { h = m.h, l = m.l, a = 0, z = 0, open = 0, g = 0, dl = 0 }
    m.n, m.open, m.dl = 1, 0, 0
  end
  for i = 1, m.n do add(m[i], ch, cl, m.base) end
  set_level(m)
  local last = m[m.n]
  last.open, last.g, last.dl = last.open + 1, last.g + ch + (cl > 0 and 1 or 0), max(last.dl, dl)
  m.open, m.dl, m.seq = m.open + 1, max(m.dl, dl), seq
end

-- The epoch after which a reservation came; none if that is part of the first.
local function epoch_of(m, seq)
  for i = m.n, 1, -1 do
    if m[i].z < seq then return i end
  end
end

-- One that held `g` is open no more.
local function let_go(m, seq, g)
  m.open = m.open - 1
  if m.open <= 0 then return rest(m) end
  local i = epoch_of(m, seq)
  if not i then return end
  local e = m[i]
  e.open, e.g = max(0, e.open - 1), max(0, e.g - g)
  close_epochs(m)
end

-- Replaces what was held by more or less of it, by `ch` and `cl`. What has outlived its deadline is open no more already,
-- and is given nothing back where that can not be told.
local function settle_bucket(m, seq, more, ch, cl, g, late)
  look(m)
  if m.n == 0 then
    if more then
      raise_to_now(m)
      add(m, ch, cl, m.base)
    end
    return
  end
  for i = 1, m.n do
    local e = m[i]
    if more and e.a < seq then
      add(e, ch, cl, m.base)
    elseif not more and e.z < seq then
      take(e, ch, cl, m.base)
    end
  end
  set_level(m)
  if not late then let_go(m, seq, g) end
end

-- Another amount in the same window: what is taken stays taken, and two microseconds more, as this is not exact.
local function rescale(m, before)
  local by = before / m.amount
  m.by = by
  local function scale(e)
    e.h, e.l = max(0, now + floor((e.h - now + (e.l > 0 and 1 or 0)) * by) + 2), 0
  end
  scale(m)
  for i = 1, m.n do
    scale(m[i])
    m[i].g = ceil((m[i].g + 1) * by) + 2 * m[i].open
  end
end

-- Other shapes -----------------------------------------------------------------------------------------------

-- A cell that is gone may stand behind one that is not, once the clock was set back: it must not count again.
local function drop_gone(m)
  for i = #m, 1, -1 do
    if m[i].last + m.every <= now then table.remove(m, i) end
  end
end

local function used(m)
  if m.kind == 's' then
    local sum = 0
    for i = 1, #m do
      if m[i].last + m.every > now then sum = sum + m[i].sum end
    end
    return sum
  elseif m.kind == 'f' then
    return m.current == m.number and m.sum or 0
  end
  return m.sum
end

local function charge(m, amount)
  if m.kind == 's' then
    drop_gone(m)
    local cell = m[#m]
    if cell and now < cell.from + m.width then
      cell.last, cell.sum = now, cell.sum + amount
    else
      m[#m + 1] = { from = now, last = now, sum = amount }
    end
  elseif m.kind == 'f' then
    if m.current ~= m.number then m.current, m.sum = m.number, 0 end
    m.sum = m.sum + amount
  else
    m.sum = m.sum + amount
  end
end

local function settle(m, at, held, real)
  if m.kind == 's' then
    for i = 1, #m do
      if m[i].from <= at and at <= m[i].last then
        m[i].sum = max(0, m[i].sum + real - held)
        return
      end
    end
  elseif m.kind == 'f' and m.current == m.number and m.from <= at then
    m.sum = max(0, m.sum + real - held)
  end
end

local function hold(m, amount, dl)
  m.held, m.dl = m.held + amount, max(m.dl, dl)
end

-- Accounts ---------------------------------------------------------------------------------------------------

local function read_bucket(m, raw, q)
  local amount, n
  amount, m.h, m.l, n, q = get('<I7I7I6B', raw, q)
  m.n = n
  if n > 0 then
    m.held, m.dl, m.open, m.seq, q = get('<I7I7I4I7', raw, q)
    for i = 1, n do
      local e = {}
      e.h, e.l, e.a, e.z, e.open, e.g, e.dl, q = get('<I7I6I7I7I4I7I7', raw, q)
      m[i] = e
    end
  end
  if amount ~= m.amount then return q, amount end
  return q
end

local function read_limit(m, raw, q)
  local cells
  if m.kind == 'b' then return read_bucket(m, raw, q) end
  if m.kind == 'g' then
    m.sum, m.first, m.last, q = get('<I7I7I7', raw, q)
    return q
  end
  m.held, m.dl, q = get('<I7I7', raw, q)
  if m.kind == 'f' then
    m.current, m.sum, q = get('<I7I7', raw, q)
  else
    cells, q = get('<B', raw, q)
    for i = 1, cells do
      local cell = {}
      cell.from, cell.last, cell.sum, q = get('<I7I7I7', raw, q)
      m[i] = cell
    end
  end
  return q
end

local function fresh(m)
  m.held, m.dl = 0, 0
  if m.kind == 'b' then
    m.h, m.l, m.n, m.open, m.seq = 0, 0, 0, 0, 0
  elseif m.kind ~= 's' then
    m.sum, m.current, m.first, m.last = 0, 0, 0, 0
  end
end

local function read_tail(a, raw, q)
  local size = #raw
  while q <= size do
    local tag, n = sub(raw, q, q)
    q = q + 1
    if tag == 'q' then
      a.seq, q = get('<I7', raw, q)
    elseif tag == 'w' then
      a.watched = true
    elseif tag == 'l' then
      n, q = get('<B', raw, q)
      for i = 1, n do
        local e = {}
        e.limit, e.node, e.order, e.queued, e.till, e.turn, q = get('<Bc8I7I7I7I7', raw, q)
        a.line[i] = e
      end
    else
      n, q = get('<B', raw, q)
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
    end
  end
end

-- Slots ------------------------------------------------------------------------------------------------------
-- Who holds slots stands by deadline in a sorted set of its own, which must never be there without its account: what an
-- account that was forgotten left behind would be freed once more. So the set goes first, a minute or two after the last
-- deadline.

local MINUTE = 60000000

local function kept_till(last) return (floor(last / MINUTE) + 2) * MINUTE end

local function set_last(m, zset, last)
  if last > 0 and (m.last == 0 or kept_till(last) ~= kept_till(m.last)) then
    call('PEXPIREAT', zset, kept_till(last) / 1000)
  end
  m.last = last
end

local function deadline_at(zset, place)
  local found = call('ZRANGE', zset, place, place, 'WITHSCORES')
  return found[2] and floor(tonumber(found[2])) or 0
end

-- Frees the slots of reservations whose deadline has passed.
local function expire_slots(a, m)
  if m.first == 0 or m.first > now then return end
  local zset = KEYS[a.gauge]
  for _, member in ipairs(call('ZRANGEBYSCORE', zset, '-inf', now)) do
    m.sum = max(0, m.sum - get('<I7', member, #member - 6))
    a.gave = true
  end
  call('ZREMRANGEBYSCORE', zset, '-inf', now)
  m.first = deadline_at(zset, 0)
  if m.first == 0 then m.sum, m.last = 0, 0 end
  a.dirty = true
end

-- Shares -----------------------------------------------------------------------------------------------------
-- What a process may spend by itself is not charged before it tells what it spent, but nobody else can have it: what is
-- charged and all shares together never exceed a limit. Whatever was asked of a share once is in `turn`.

local function sum_shares(a)
  for j = 1, #a do
    local s = { amount = 0, h = 0, l = 0 }
    for i = 1, #a.leases do
      local e = a.leases[i][j]
      s.amount = s.amount + e.amount
      if a[j].kind == 'b' then add(s, e.h, e.l, a[j].base) end
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

local function spend_share(m, s)
  if s.amount == 0 then return end
  if m.kind == 'b' then
    charge_bucket(m, s.h, s.l)
  elseif m.kind ~= 'f' or now >= m.from then
    charge(m, s.amount)
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

-- Until when an account with these shares is not as good as fresh.
local function shares_till(a)
  local till, last = 0, 0
  for _, e in ipairs(a.leases) do last = max(last, e.till) end
  for j = 1, #a do
    local m, s = a[j], a[j].shared
    till = max(till, last)
    if s.amount > 0 and m.kind == 'b' then
      till = max(till, max(m.h, last) + s.h + #a.leases + 1)
    elseif s.amount > 0 then
      till = max(till, m.kind == 'f' and m.to or last + m.every)
    end
  end
  return till
end

local function open_account(a, raw)
  a.raw, a.seq, a.line, a.leases = raw, 0, {}, {}
  local q, before = 1
  for j = 1, #a do fresh(a[j]) end
  if raw then
    for j = 1, #a do
      q, before = read_limit(a[j], raw, q)
      if before then
        rescale(a[j], before)
        a.dirty = true
      end
    end
    read_tail(a, raw, q)
    rescale_shares(a)
    for j = 1, #a do
      local m = a[j]
      if m.kind == 'g' then
        expire_slots(a, m)
      elseif m.kind ~= 'b' and m.dl > 0 and m.dl <= now then
        m.held, m.dl = 0, 0
      end
    end
  end
  if a.leases[1] then
    expire_leases(a)
    sum_shares(a)
  end
  return a
end

if count > 0 then
  local raws = call('MGET', unpack(KEYS, 1, count))
  for i = 1, count do open_account(accounts[i], raws[i]) end
end

local function write_limit(m, out)
  if m.kind == 'b' then
    if m.n > 0 then look(m) end
    if m.n == 0 and (m.h < now or m.h == now and m.l == 0) then m.h, m.l = 0, 0 end
    out[#out + 1] = put('<I7I7I6B', m.amount, m.h, m.l, m.n)
    if m.n > 0 then
      out[#out + 1] = put('<I7I7I4I7', m.held, m.dl, m.open, m.seq)
      for i = 1, m.n do
        local e = m[i]
        out[#out + 1] = put('<I7I6I7I7I4I7I7', e.h, e.l, e.a, e.z, e.open, e.g, e.dl)
      end
      return max(m.h + 1, m.dl)
    end
    return m.h > 0 and m.h + 1 or 0
  end
  if m.kind == 'g' then
    out[#out + 1] = put('<I7I7I7', m.sum, m.first, m.last)
    return m.sum > 0 and kept_till(m.last) + MINUTE or 0
  end
  out[#out + 1] = put('<I7I7', m.held, m.dl)
  if m.kind == 'f' then
    local live = m.current == m.number and m.sum > 0
    out[#out + 1] = put('<I7I7', m.current, m.sum)
    return max(live and m.to or 0, m.dl)
  end
  drop_gone(m)
  out[#out + 1] = char(#m)
  local till = m.dl
  for i = 1, #m do
    local cell = m[i]
    out[#out + 1] = put('<I7I7I7', cell.from, cell.last, cell.sum)
    till = max(till, cell.sum > 0 and cell.last + m.every or cell.from + m.width)
  end
  return till
end

local function write_tail(a, out)
  local till = 0
  if a.seq > 0 and a.moving then out[#out + 1] = put('<c1I7', 'q', a.seq) end
  if a.watched then out[#out + 1] = 'w' end
  if a.line[1] then
    out[#out + 1] = put('<c1B', 'l', #a.line)
    for _, e in ipairs(a.line) do
      out[#out + 1] = put('<Bc8I7I7I7I7', e.limit, e.node, e.order, e.queued, e.till, e.turn)
      till = max(till, e.till)
    end
  end
  if a.leases[1] then
    out[#out + 1] = put('<c1B', 's', #a.leases)
    for _, e in ipairs(a.leases) do
      out[#out + 1] = put('<c8I7BI7B', e.node, e.till, e.asked, e.turn, e.grown)
      for j = 1, #a do
        out[#out + 1] = put('<I7I7I6', e[j].amount, e[j].h, e[j].l)
      end
    end
    till = max(till, shares_till(a))
  end
  return till
end

-- The account as it is kept; nothing while it stands as a fresh one would.
local function close_account(a)
  local out, till = {}, 0
  a.moving = false
  for j = 1, #a do
    till = max(till, write_limit(a[j], out))
    if a[j].kind == 'b' and a[j].n > 0 then a.moving = true end
  end
  till = max(till, write_tail(a, out))
  if till <= now then
    if a.raw then call('DEL', a.key) end
    return ''
  end
  local raw = concat(out)
  call('SET', a.key, raw, 'PX', ceil((till - now) / 1000) + 1)
  return raw
end

-- Lines ------------------------------------------------------------------------------------------------------
-- An account's line has one entry for each limit and process: the process's head, by its arrival. A process that has
-- died is known by its channel having no subscriber; where that cannot be seen (on a Cluster), by its not having
-- come again in time.

local function channel(of) return prefix .. ':n:' .. of end

local function is_alive(e)
  if e.till <= now then return false end
  if alive_nodes[e.node] == nil then
    alive_nodes[e.node] = alone == 0 or call('PUBSUB', 'NUMSUB', channel(e.node))[2] > 0
  end
  return alive_nodes[e.node]
end

-- Whether a live entry of a limit's line came before `order`; entries of the dead are taken out.
local function is_behind(a, j, order)
  local found = false
  for i = #a.line, 1, -1 do
    local e = a.line[i]
    if e.limit == j and e.order < order then
      if is_alive(e) then
        found = true
      else
        table.remove(a.line, i)
        a.dirty = true
      end
    end
  end
  return found
end

local function remove_entry(a, j)
  for i = #a.line, 1, -1 do
    local e = a.line[i]
    if e.limit == j and e.node == node then
      table.remove(a.line, i)
      a.dirty = true
      return e.order
    end
  end
end

local function leave_line(a, j)
  if remove_entry(a, j) then a.moved = true end
end

local function enter_line(a, j, e)
  local before = remove_entry(a, j)
  -- Another may be first now.
  if before and before < e.order then a.moved = true end
  if #a.line >= 250 then return end
  local at = 1
  while a.line[at] and a.line[at].order <= e.order do at = at + 1 end
  table.insert(a.line, at, e)
  a.dirty = true
end

-- Tells the first of each line of an account that something has changed for it.
local function wake(a)
  local told = {}
  local i = 1
  while a.line[i] do
    local e = a.line[i]
    local gone = false
    if not told[e.limit] then
      if e.till <= now then
        gone = true
      elseif e.node ~= node then
        gone = call('PUBLISH', channel(e.node), put('<c1B', 'w', e.limit) .. a.key) == 0 and alone == 1
      end
    end
    if gone then
      table.remove(a.line, i)
      a.dirty = true
    else
      told[e.limit] = true
      i = i + 1
    end
  end
end

local function tell_changes(a)
  if a.gave and a.watched then
    a.watched, a.dirty = nil, true
    call('PUBLISH', prefix .. ':room', a.key)
  end
  if (a.gave or a.moved) and a.line[1] then wake(a) end
end

-- Asks the other holders of shares of an account to give back what they do not need.
local function recall(a)
  for _, e in ipairs(a.leases) do
    local amount = 0
    for j = 1, #a do amount = amount + e[j].amount end
    if e.asked == 0 and e.node ~= node and amount > 0 then
      e.asked, a.dirty = 1, true
      call('PUBLISH', channel(e.node), 'r' .. a.key)
    end
  end
end

-- Asking -----------------------------------------------------------------------------------------------------

local function fits(m, amount, ch, cl, shared)
  if m.kind ~= 'b' then
    return used(m) + amount + (shared and shared.amount or 0) <= m.amount
  end
  local h, l = m.h, m.l
  if h < now then h, l = now, 0 end
  h, l = h + ch, l + cl
  if shared then h, l = h + shared.h, l + shared.l end
  while l >= m.base do h, l = h + 1, l - m.base end
  local most = now + m.bh
  return h < most or (h == most and l <= m.bl)
end

-- Reads what is asked of which accounts.
local function read_asks(op, q)
  local n, at
  local asks = {}
  n, q = get('<I2', op, q)
  for i = 1, n do
    at, q = get('<I2', op, q)
    local a = accounts[at]
    local ask = { account = a }
    for j = 1, #a do
      local c = {}
      c.amount, q = get('<I7', op, q)
      if a[j].kind == 'b' then c.h, c.l, q = get('<I7I6', op, q) end
      ask[j] = c
    end
    asks[i] = ask
  end
  return asks, q
end

-- Whether all fits and nobody is overtaken. Whoever holds a share of what does not fit is asked for it.
local function may_go(asks, order)
  local free = true
  for _, ask in ipairs(asks) do
    local a = ask.account
    if a.enforced == 1 then
      for j = 1, #a do
        local c = ask[j]
        if c.amount > 0 then
          local m = a[j]
          if m.kind == 'b' and m.n > 0 then look(m) end
          if not fits(m, c.amount, c.h, c.l, m.shared) then
            free = false
            if m.shared then recall(a) end
          elseif a.line[1] and is_behind(a, j, order) then
            free = false
          end
        end
      end
    end
  end
  return free
end

local function next_seq(asks)
  local seq = now
  for _, ask in ipairs(asks) do seq = max(seq, ask.account.seq + 1) end
  return seq
end

local function hold_slot(a, m, amount, id, part, dl)
  local zset = KEYS[a.gauge]
  call('ZADD', zset, dl, put('<c12I2I7', id, part, amount))
  if m.first == 0 or dl < m.first then m.first = dl end
  if dl > m.last then set_last(m, zset, dl) end
end

-- Charges all that is asked as part number `part` of a reservation.
local function hold_all(asks, id, part, seq, dl)
  for _, ask in ipairs(asks) do
    local a = ask.account
    a.seq, a.dirty = seq, true
    for j = 1, #a do
      local m, c = a[j], ask[j]
      if m.kind == 'b' then
        look(m)
        open_bucket(m, seq, dl, c.h, c.l)
        hold(m, c.amount, dl)
      elseif m.kind == 'g' then
        if c.amount > 0 then
          charge(m, c.amount)
          hold_slot(a, m, c.amount, id, part, dl)
        end
      else
        charge(m, c.amount)
        hold(m, c.amount, dl)
      end
    end
  end
end

-- The deadlines that a demand on slots waits for if it does not fit.
local function slot_ends(asks)
  local out = {}
  for _, ask in ipairs(asks) do
    local a = ask.account
    for j = 1, #a do
      local m, ends = a[j], {}
      if m.kind == 'g' then
        local missing = m.sum + ask[j].amount - m.amount
        if missing > 0 and ask[j].amount > 0 and m.sum > 0 then
          ends = call('ZRANGE', KEYS[a.gauge], 0, min(missing, MOST_ENDS) - 1, 'WITHSCORES')
        end
        out[#out + 1] = put('<I2', #ends / 2)
        for i = 1, #ends, 2 do
          out[#out + 1] = put('<I7I7', tonumber(ends[i + 1]), (get('<I7', ends[i], #ends[i] - 6)))
        end
      end
    end
  end
  return concat(out)
end

local function record(flags, parts, dl, blob)
  local out = { put('<BBI2I7', 1, flags, #parts, dl) }
  for i, part in ipairs(parts) do out[i + 1] = put('<I7I7', part.at, part.seq) end
  out[#out + 1] = blob
  return concat(out)
end

-- The record of what was withdrawn before it came.
local WITHDRAWN = char(9)

-- An open reservation; none if it has ended.
local function read_record(raw)
  if byte(raw) ~= 1 then return end
  local r, n, q = {}
  r.flags, n, r.dl, q = get('<BI2I7', raw, 2)
  for i = 1, n do
    local part = {}
    part.at, part.seq, q = get('<I7I7', raw, q)
    r[i] = part
  end
  return r
end

-- A reservation made before under the same idempotency key; not the one that is asked for, whose answer was lost.
local function namesake(at, own)
  local id = call('GET', KEYS[at])
  if not id or id == own then return end
  local key = sub(KEYS[at], 1, -18) .. 'r' .. id
  local raw = call('GET', key)
  if not raw then return end
  if byte(raw) == 1 then call('SETRANGE', key, 1, char(1)) end
  return 'N' .. id .. raw
end

local function made_before(rec)
  local raw = call('GET', KEYS[rec])
  return raw and 'P' .. raw
end

local function reserve(op, q)
  local rec, name, ttl, keep, order, stand, limit, queued, stay, turn
  local after, after_queued
  rec, name, ttl, keep, order, stand, limit, q = get('<I2I2I7I7I7I2B', op, q)
  queued, stay, turn, after, after_queued, q = get('<I7I7I7I7I7', op, q)
  local blob
  blob, q = get('<I2c0', op, q)
  local asks = read_asks(op, q)
  local id = sub(KEYS[rec], -12)
  local known = name > 0 and namesake(name, id)
  local free = not known and may_go(asks, order)
  -- It may have been admitted by a call whose answer was lost.
  known = known or not free and made_before(rec)
  if known then
    if stand > 0 then leave_line(accounts[stand], limit) end
    return known
  end
  if not free then
    if stand > 0 then
      enter_line(accounts[stand], limit, {
        limit = limit, node = node, order = order, queued = queued, till = now + stay, turn = turn,
      })
    else
      for _, ask in ipairs(asks) do
        if not ask.account.watched then ask.account.watched, ask.account.dirty = true, true end
      end
    end
    return 'B' .. slot_ends(asks)
  end
  local seq, dl = next_seq(asks), now + ttl
  local raw = record(0, { { at = now, seq = seq } }, dl, blob)
  if not call('SET', KEYS[rec], raw, 'NX', 'PX', ceil(ttl / 1000) + keep) then return made_before(rec) end
  if name > 0 then call('SET', KEYS[name], id, 'PX', ceil(ttl / 1000) + keep) end
  if stand > 0 then
    local a = accounts[stand]
    leave_line(a, limit)
    if after > 0 then
      enter_line(a, limit, {
        limit = limit, node = node, order = after, queued = after_queued, till = now + stay, turn = 0,
      })
    end
  end
  hold_all(asks, id, 1, seq, dl)
  return put('<c1I7I7I7', 'A', dl, now, seq)
end

-- Ending -----------------------------------------------------------------------------------------------------

-- How far a limit is past what it gives, in its own numbers.
local function excess(m)
  if m.kind ~= 'b' then return put('<I7I6', max(0, used(m) - m.amount), 0) end
  local e = { h = m.h, l = m.l }
  take(e, now + m.bh, m.bl, m.base)
  if e.h < 0 then return put('<I7I6', 0, 0) end
  return put('<I7I6', e.h, e.l)
end

local function free_slot(a, m, id, part, held, dl)
  if held == 0 then return end
  local zset = KEYS[a.gauge]
  if call('ZREM', zset, put('<c12I2I7', id, part, held)) == 1 then
    m.sum = max(0, m.sum - held)
    a.gave = true
    if m.sum == 0 then
      m.first, m.last = 0, 0
    elseif dl >= m.last then
      set_last(m, zset, deadline_at(zset, -1))
    end
  end
end

-- Replaces what one part of a reservation took of an account by what was used; reads it from `op`.
local function settle_part(a, r, part, id, op, q)
  for j = 1, #a do
    local m = a[j]
    local held, real, ch, cl, g
    held, real, q = get('<I7I7', op, q)
    if m.kind == 'b' then
      ch, cl, g, q = get('<I7I6I7', op, q)
      settle_bucket(m, r[part].seq, real > held, ch, cl, g, r.dl <= now)
    elseif m.kind == 'g' then
      free_slot(a, m, id, part, held, r.dl)
    else
      settle(m, r[part].at, held, real)
    end
    if m.kind ~= 'g' then m.held = max(0, m.held - held) end
    if real < held then a.gave = true end
  end
  a.dirty = true
  return q
end

local function finish(op, q)
  local rec, name, outcome, parts, keep, blob, n, at
  rec, name, outcome, parts, keep, q = get('<I2I2BI2I7', op, q)
  blob, n, q = get('<I2c0I2', op, q)
  local late = outcome >= 16
  if late then outcome = outcome - 16 end
  local withdrawn = outcome == 9
  local raw = call('GET', KEYS[rec])
  if not raw or raw == WITHDRAWN then
    -- It may be on its way still: it shall find its place taken.
    if withdrawn then call('SET', KEYS[rec], WITHDRAWN, 'PX', keep) end
    return 'U'
  end
  if byte(raw) ~= 1 then return 'O' .. raw end
  local r = read_record(raw)
  if r.dl <= now and not late then return 'O' .. raw end
  if #r ~= parts then return 'V' .. raw end
  if withdrawn and r.flags == 1 then return 'O' .. raw end
  local id, over = sub(KEYS[rec], -12), {}
  for _ = 1, n do
    at, q = get('<I2', op, q)
    local a = accounts[at]
    for part = 1, parts do q = settle_part(a, r, part, id, op, q) end
    for j = 1, #a do over[#over + 1] = excess(a[j]) end
  end
  if withdrawn then
    call('DEL', KEYS[rec])
    if name > 0 then call('DEL', KEYS[name]) end
    return 'E'
  end
  raw = put('<BB', outcome, r.flags) .. blob .. concat(over)
  call('SET', KEYS[rec], raw, 'PX', keep)
  if name > 0 then call('PEXPIRE', KEYS[name], keep) end
  return 'E' .. raw
end

local function postpone_bucket(m, r, dl)
  if m.n == 0 then return end
  m.dl = max(m.dl, dl)
  for part = 1, #r do
    local i = epoch_of(m, r[part].seq)
    if i then m[i].dl = max(m[i].dl, dl) end
  end
end

local function postpone(asks, r, id, dl)
  for _, ask in ipairs(asks) do
    local a = ask.account
    a.dirty = true
    for j = 1, #a do
      local m, held = a[j], ask[j].parts
      if m.kind == 'b' then
        postpone_bucket(m, r, dl)
      elseif m.kind == 'g' then
        for part = 1, #r do
          if held[part] > 0 then hold_slot(a, m, held[part], id, part, dl) end
        end
        -- A deadline may have come nearer.
        a.gave = true
        if r.dl >= m.last and dl < r.dl then
          set_last(m, KEYS[a.gauge], deadline_at(KEYS[a.gauge], -1))
        end
      else
        m.dl = max(m.dl, dl)
      end
    end
  end
end

-- What each part of the reservation holds of each limit, where slots are to be moved.
local function read_parts(asks, parts, op, q)
  for _, ask in ipairs(asks) do
    for j = 1, #ask.account do
      local held = {}
      if ask.account[j].kind == 'g' then
        for part = 1, parts do held[part], q = get('<I7', op, q) end
      end
      ask[j].parts = held
    end
  end
end

local function extend(op, q)
  local rec, name, parts, more, ttl, keep, blob
  rec, name, parts, more, ttl, keep, q = get('<I2I2I2BI7I7', op, q)
  blob, q = get('<I2c0', op, q)
  local asks
  asks, q = read_asks(op, q)
  local raw = call('GET', KEYS[rec])
  if not raw or raw == WITHDRAWN then return 'U' end
  if byte(raw) ~= 1 then return 'O' .. raw end
  local r = read_record(raw)
  if r.dl <= now then return 'O' .. raw end
  if more == 1 and #r == parts + 1 and sub(raw, -8) == sub(blob, -8) then
    -- Sent again.
    return put('<c1I7I7I7', 'A', r.dl, r[#r].at, r[#r].seq)
  end
  if #r ~= parts then return 'V' .. raw end
  local id = sub(KEYS[rec], -12)
  local dl = ttl > 0 and now + ttl or r.dl
  read_parts(asks, parts, op, q)
  if more == 1 then
    if not may_go(asks, 0) then return 'B' .. slot_ends(asks) end
    local seq = next_seq(asks)
    hold_all(asks, id, parts + 1, seq, dl)
    r[parts + 1] = { at = now, seq = seq }
  end
  if ttl > 0 then
    if more == 1 then
      for _, ask in ipairs(asks) do
        for j = 1, #ask.account do
          if ask.account[j].kind == 'g' then ask[j].parts[parts + 1] = 0 end
        end
      end
    end
    postpone(asks, r, id, dl)
  end
  local last = r[#r]
  local out = {}
  for i = 1, #r do out[i] = r[i] end
  call('SET', KEYS[rec], record(r.flags, out, dl, blob), 'PX', ceil((dl - now) / 1000) + keep)
  if name > 0 then call('PEXPIRE', KEYS[name], ceil((dl - now) / 1000) + keep) end
  return put('<c1I7I7I7', 'A', dl, last.at, last.seq)
end

-- Gives back the last part of a reservation, which was to extend it and does not fit elsewhere.
local function retract(op, q)
  local rec, parts, keep, blob, n, at
  rec, parts, keep, q = get('<I2I2I7', op, q)
  blob, n, q = get('<I2c0I2', op, q)
  local mark = sub(op, -8)
  local raw = call('GET', KEYS[rec])
  if not raw or byte(raw) ~= 1 or sub(raw, -8) ~= mark then return 'U' end
  local r = read_record(raw)
  if r.dl <= now or #r ~= parts then return 'U' end
  for _ = 1, n do
    at, q = get('<I2', op, q)
    q = settle_part(accounts[at], r, parts, sub(KEYS[rec], -12), op, q)
  end
  r[parts] = nil
  call('SET', KEYS[rec], record(r.flags, r, r.dl, blob), 'PX', ceil((r.dl - now) / 1000) + keep)
  return 'E'
end

-- The rest ---------------------------------------------------------------------------------------------------

local function peek(op, q)
  return 'S' .. slot_ends((read_asks(op, q)))
end

local function look_up(op, q)
  return 'S' .. (call('GET', KEYS[(get('<I2', op, q))]) or '')
end

local function leave(op, q)
  local at, limit = get('<I2B', op, q)
  leave_line(accounts[at], limit)
  return 'S'
end

local function lease_of(a)
  for _, e in ipairs(a.leases) do
    if e.node == node then return e end
  end
end

-- Whether a share may grow by what is asked: with as much as `spare` left free beside it.
local function may_grow(a, asks)
  if a.enforced == 0 then return true end
  for j = 1, #a do
    local m, c = a[j], asks[j]
    if c.amount > 0 then
      if m.kind == 'b' and m.n > 0 then look(m) end
      local h, l = c.h + c.spare_h, c.l + c.spare_l
      if not fits(m, c.amount + c.spare, h, l, m.shared) then return false end
    end
  end
  return true
end

local function read_shares(a, op, q)
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
  if m.kind == 'b' then take(s, ch, cl, m.base) end
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
    if a[j].kind == 'f' then till = min(till, a[j].to - 1) end
  end
  return till
end

-- Whether the share grew, and whether somebody was denied for it before: the same each time that the report comes.
local function lease_said(e) return put('<c1BBI7', 'L', e.grown % 2, floor(e.grown / 2), e.till) end

local AHEAD, KNOWN = 1, 2

-- Tells what was spent of a share, gives some of it back, and asks for more: a lease.
local function lease(op, q)
  local at, ttl, turn, flags
  at, ttl, turn, flags, q = get('<I2I7I7B', op, q)
  local a = accounts[at]
  local asks = read_shares(a, op, q)
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
      if a[j].kind == 'b' then add(s, c.h, c.l, a[j].base) end
    end
    sum_shares(a)
  elseif ahead then
    recall(a)
  end
  e.till, e.turn, e.grown = lease_end(a, ttl), turn, (grown and 1 or 0) + 2 * e.asked
  e.asked = 0
  return lease_said(e)
end

local operations = { reserve, finish, extend, peek, look_up, leave, lease, retract }
local answers = {}
for i = 2, #ARGV do answers[i - 1] = operations[byte(ARGV[i])](ARGV[i], 2) end

local reply = { put('<I7', now) }
for i = 1, count do
  local a = accounts[i]
  tell_changes(a)
  reply[i + 1] = a.dirty and close_account(a) or a.raw or ''
end
for i = 1, #answers do reply[#reply + 1] = answers[i] end
return reply
