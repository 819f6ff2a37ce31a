
-- Crowds -----------------------------------------------------------------------------------------------------
-- Many epochs of a bucket.

local EPOCHS = 16

function f.remove_epoch(m, i)
  table.remove(m, i)
  m.n = m.n - 1
end

-- Makes epoch i and the next one.
function f.join(m, i)
  local e, o = m[i], m[i + 1]
  if o.h > e.h or (o.h == e.h and o.l > e.l) then e.h, e.l = o.h, o.l end
  e.z, e.open, e.g, e.dl = o.z, o.open, o.g, o.dl
  f.remove_epoch(m, i + 1)
end

-- Lets epoch i stand for the next one too, which it is above.
function f.swallow(m, i)
  local e, o = m[i], m[i + 1]
  e.open, e.g, e.dl = e.open + o.open, e.g + o.g, max(e.dl, o.dl)
  f.remove_epoch(m, i + 1)
end

-- Joins the two epochs that differ least by what may still be given back between them.
function f.join_closest(m)
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
  f.join(m, at)
end

-- Leaves out epochs but the newest that stay below an earlier one, and one more where they are too many.
function f.thin_out(m)
  local i = 1
  while i < m.n - 1 do
    if m[i].h - m[i].g > m[i + 1].h then f.swallow(m, i) else i = i + 1 end
  end
  if m.n > EPOCHS then f.join_closest(m) end
end

-- Another amount in the same window: what is taken stays taken, and two microseconds more, as this is not exact.
function f.rescale(m, before)
  local by = before / m.of.amount
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
