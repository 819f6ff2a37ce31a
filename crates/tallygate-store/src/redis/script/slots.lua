
-- Slots ------------------------------------------------------------------------------------------------------
-- Who holds slots stands by deadline in a sorted set of its own, which must never be there without its account: what an
-- account that was forgotten left behind would be freed once more. So the set goes first, a minute or two after the last
-- deadline.

local MINUTE, MOST_ENDS = 60000000, 256

local function kept_till(last) return (floor(last / MINUTE) + 2) * MINUTE end

-- Until when an account that holds slots is kept.
function f.slots_till(m) return kept_till(m.last) + MINUTE end

function f.set_last(m, zset, last)
  if last > 0 and (m.last == 0 or kept_till(last) ~= kept_till(m.last)) then
    call('PEXPIREAT', zset, kept_till(last) / 1000)
  end
  m.last = last
end

function f.deadline_at(zset, place)
  local found = call('ZRANGE', zset, place, place, 'WITHSCORES')
  return found[2] and floor(tonumber(found[2])) or 0
end

-- Frees the slots of reservations whose deadline has passed.
function f.expire_slots(a)
  for j = 1, #a do
    local m = a[j]
    if m.of.kind == 'g' and m.first > 0 and m.first <= now then
      for _, member in ipairs(call('ZRANGEBYSCORE', a.zset, '-inf', now)) do
        m.sum = max(0, m.sum - get('<I7', member, #member - 6))
        a.gave = true
      end
      call('ZREMRANGEBYSCORE', a.zset, '-inf', now)
      m.first = f.deadline_at(a.zset, 0)
      if m.first == 0 then m.sum, m.last = 0, 0 end
      a.dirty = true
    end
  end
end

-- Answers 1 if it was not held.
function f.hold_slot(a, m, amount, id, part, dl)
  local new = call('ZADD', a.zset, dl, put('<c12I2I7', id, part, amount))
  if m.first == 0 or dl < m.first then m.first = dl end
  if dl > m.last then f.set_last(m, a.zset, dl) end
  return new
end

function f.free_slot(a, m, id, part, held, dl)
  if held == 0 then return end
  if call('ZREM', a.zset, put('<c12I2I7', id, part, held)) == 1 then
    m.sum = max(0, m.sum - held)
    a.gave = true
    if m.sum == 0 then
      m.first, m.last = 0, 0
    elseif dl >= m.last then
      f.set_last(m, a.zset, f.deadline_at(a.zset, -1))
    end
  end
end

-- The deadlines that a demand on a limit of slots waits for if it does not fit.
function f.ends_of(a, m, amount)
  local ends = {}
  local missing = m.sum + amount - m.of.amount
  if missing > 0 and amount > 0 and m.sum > 0 then
    ends = call('ZRANGE', a.zset, 0, min(missing, MOST_ENDS) - 1, 'WITHSCORES')
  end
  local out = { put('<I2', #ends / 2) }
  for i = 1, #ends, 2 do
    out[#out + 1] = put('<I7I7', tonumber(ends[i + 1]), (get('<I7', ends[i], #ends[i] - 6)))
  end
  return concat(out)
end
