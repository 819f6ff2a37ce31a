
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


function f.add(e, ch, cl, base)
  local l = e.l + cl
  if l >= base then
    e.h, e.l = e.h + ch + 1, l - base
  else
    e.h, e.l = e.h + ch, l
  end
end

function f.take(e, ch, cl, base)
  local l = e.l - cl
  if l < 0 then
    e.h, e.l = e.h - ch - 1, l + base
  else
    e.h, e.l = e.h - ch, l
  end
end

function f.raise_to_now(e)
  if e.h < now then e.h, e.l = now, 0 end
end

function f.set_level(m)
  local top = m[1]
  for i = 2, m.n do
    local e = m[i]
    if e.h > top.h or (e.h == top.h and e.l > top.l) then top = e end
  end
  m.h, m.l = top.h, top.l
end

function f.rest(m)
  for i = 1, m.n do m[i] = nil end
  m.n, m.open, m.held, m.dl = 0, 0, 0, 0
end

-- Ends what is past its deadline, and joins the epochs that can never again move apart.
function f.close_epochs(m)
  for i = m.n, 1, -1 do
    local e = m[i]
    if e.open > 0 and e.dl <= now then
      m.open, e.open = m.open - e.open, 0
    end
    if e.open == 0 then
      e.g = 0
      if i < m.n then f.join(m, i) else e.z = m.seq end
    end
  end
end

-- Whether an epoch that began now would stay below the others whatever is given back.
function f.stays_below(m)
  local g = 0
  for i = m.n, 1, -1 do
    g = g + m[i].g
    if m[i].h - g >= now then return true end
  end
end

-- Takes the instant into the newest epoch.
function f.look(m)
  if m.n == 0 then return end
  if m.dl <= now then return f.rest(m) end
  f.close_epochs(m)
  local last = m[m.n]
  if last.open == 0 then
    f.raise_to_now(last)
  elseif not f.stays_below(m) then
    m.n = m.n + 1
    m[m.n] = { h = now, l = 0, a = m.seq, z = m.seq, open = 0, g = 0, dl = 0 }
    if m.n > 2 then f.thin_out(m) end
  end
  f.set_level(m)
end

-- Charges a bucket that was looked at for a reservation.
function f.open_bucket(m, seq, dl, ch, cl)
  if m.n == 0 then
    f.raise_to_now(m)
    f.add(m, ch, cl, m.of.base)
    m[1] = { h = m.h, l = m.l, a = 0, z = 0, open = 0, g = 0, dl = 0 }
    m.n, m.open, m.dl = 1, 0, 0
  else
    for i = 1, m.n do f.add(m[i], ch, cl, m.of.base) end
    f.set_level(m)
  end
  local last = m[m.n]
  last.open, last.g = last.open + 1, last.g + ch + (cl > 0 and 1 or 0)
  if last.dl < dl then last.dl = dl end
  if m.dl < dl then m.dl = dl end
  m.open, m.seq = m.open + 1, seq
end

-- The epoch after which a reservation came; none if that is part of the first.
function f.epoch_of(m, seq)
  for i = m.n, 1, -1 do
    if m[i].z < seq then return i end
  end
end

-- One that held `g` is open no more.
function f.let_go(m, seq, g)
  m.open = m.open - 1
  if m.open <= 0 then return f.rest(m) end
  local i = f.epoch_of(m, seq)
  if not i then return end
  local e = m[i]
  e.open, e.g = max(0, e.open - 1), max(0, e.g - g)
  f.close_epochs(m)
end

-- Replaces what was held by more or less of it, by `ch` and `cl`, in the epochs whose moment was before.
local function change(m, seq, more, ch, cl)
  for i = 1, m.n do
    local e = m[i]
    if more and e.a < seq then
      f.add(e, ch, cl, m.of.base)
    elseif not more and e.z < seq then
      f.take(e, ch, cl, m.of.base)
    end
  end
  f.set_level(m)
end

-- Ends one that held `g`. What has outlived its deadline is open no more already, and is given nothing back where that
-- can not be told.
function f.settle_bucket(m, seq, more, ch, cl, g, late)
  if m.open == 1 and m.n == 1 and m.dl > now and not late then
    -- Nothing is open after it, so that its level alone counts, and where that is past it is full.
    change(m, seq, more, ch, cl)
    return f.rest(m)
  end
  f.look(m)
  if m.n > 0 then
    change(m, seq, more, ch, cl)
    if not late then f.let_go(m, seq, g) end
  elseif more then
    f.raise_to_now(m)
    f.add(m, ch, cl, m.of.base)
  end
end
