
-- Other shapes -----------------------------------------------------------------------------------------------

-- A cell that is gone may stand behind one that is not, once the clock was set back: it must not count again.
function f.drop_gone(m)
  for i = #m, 1, -1 do
    if m[i].last + m.of.every <= now then table.remove(m, i) end
  end
end

function f.used(m)
  local of = m.of
  if of.kind == 's' then
    local sum = 0
    for i = 1, #m do
      if m[i].last + of.every > now then sum = sum + m[i].sum end
    end
    return sum
  elseif of.kind == 'f' then
    return m.current == of.number and m.sum or 0
  end
  return m.sum
end

function f.charge(m, amount)
  local of = m.of
  if of.kind == 's' then
    f.drop_gone(m)
    local cell = m[#m]
    if cell and now < cell.from + of.width then
      cell.last, cell.sum = now, cell.sum + amount
    else
      m[#m + 1] = { from = now, last = now, sum = amount }
    end
  elseif of.kind == 'f' then
    if m.current ~= of.number then m.current, m.sum = of.number, 0 end
    m.sum = m.sum + amount
  else
    m.sum = m.sum + amount
  end
end

function f.settle(m, at, held, real)
  local of = m.of
  if of.kind == 's' then
    for i = 1, #m do
      if m[i].from <= at and at <= m[i].last then
        m[i].sum = max(0, m[i].sum + real - held)
        return
      end
    end
  elseif of.kind == 'f' and m.current == of.number and of.from <= at then
    m.sum = max(0, m.sum + real - held)
  end
end

function f.hold(m, amount, dl)
  m.held = m.held + amount
  if m.dl < dl then m.dl = dl end
end
