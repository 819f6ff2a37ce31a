
-- Plainly ----------------------------------------------------------------------------------------------------
-- Most calls reserve of plain accounts on whose buckets nothing is open, or settle what alone is open there. Both go from text to
-- text, and do what the other files would; whatever else there is to them is left to those: there is no answer then, and
-- nothing is done. `q` says where in the operation the next account is, and is nil once one of them cannot go on so.

local op = ARGV[i]
local kind, answer = byte(op)
-- The number of a record, what becomes of it and for how long, and how many accounts change with it.
local rec, record, life, n
if i == 1 then
  -- No operation yet: it is the turn to open the accounts that are not plain.
  answer = all_plain
elseif kind == 1 then
  local name, stand, ttl, keep, blob, at, q
  rec, name, stand, ttl, keep, blob, n, q = get('<I2I2I2I7I7I3c0I2', op, 2)
  local known, dl = raws[rec], now + ttl
  if name > 0 or stand > 0 or known == nil then q = nil end
  for k = 1, q and 3 * n or 0, 3 do
    at, q = get('<I2', op, q)
    local rule, raw, till, place, after = plain[at], raws[at], dl, 1
    if not rule then
      q = nil
      break
    end
    local limits, enforced = byte(head, rule, rule + 1)
    local limit = rule + 2
    for _ = 1, limits do
      local amount, ch, cl, piece, fits
      amount, ch, cl, q = get('<I7I7I6', op, q)
      if byte(head, limit) == BUCKET then
        local all, base, bh, bl = get('<I7I6I7I6', head, limit + 1)
        local h, l, was, open = 0, 0, all, 0
        if raw then was, h, l, open, place = get('<I7I7I6B', raw, place) end
        if h < now then h, l = now, 0 end
        h, l, bh, limit = h + ch, l + cl, now + bh, limit + 27
        if l >= base then h, l = h + 1, l - base end
        fits = h < bh or h == bh and l <= bl
        if open == 0 and was == all then
          piece = put('<I7I7I6BI7I7I7I7', all, h, l, ALONE, amount, dl, now, cl > 0 and ch + 1 or ch)
        end
        if h >= till then till = h + 1 end
      else
        local all, number, _, to = get('<I7I7I7I7', head, limit + 1)
        local held, last, current, sum = 0, 0, number, 0
        if raw then held, last, current, sum, place = get('<I7I7I7I7', raw, place) end
        if last <= now then held, last = 0, 0 end
        if current ~= number then sum = 0 end
        sum, limit = sum + amount, limit + 29
        fits = sum <= all
        piece = put('<I7I7I7I7', held + amount, last > dl and last or dl, number, sum)
        if last > till then till = last end
        if sum > 0 and to > till then till = to end
      end
      if not piece or not fits and enforced == 1 and amount > 0 then
        q = nil
        break
      end
      after = after and after .. piece or piece
    end
    if not q then break end
    changes[k], changes[k + 1], changes[k + 2] = at, after, till
  end
  if q and known then
    -- It was made by a call whose answer was lost.
    answer = 'P' .. known
  elseif q then
    if dl ~= deadline then
      deadline, begun, said = dl, put('<BBI2I7I7I7', 1, 0, 1, dl, now, now), put('<c1I7I7I7', 'A', dl, now, now)
    end
    record, life, answer = begun .. blob, ceil(ttl / 1000) + keep, said
  end
elseif kind == 2 then
  local name, outcome, parts, receipt, at, q
  rec, name, outcome, parts, life, receipt, n, q = get('<I2I2BI2I7I3c0I2', op, 2)
  local known = raws[rec]
  if name > 0 or outcome >= 9 or parts ~= 1 or not known or #known < 25 or byte(known) ~= 1 then q = nil end
  local made, seq
  if q then
    local told, held, dl
    told, held, dl, made, seq = get('<BI2I7I7I7', known, 2)
    if told > 0 or held ~= 1 or dl <= now then q = nil end
  end
  for k = 1, q and 3 * n or 0, 3 do
    at, q = get('<I2', op, q)
    local rule, raw, till, place, after = plain[at], raws[at], 0, 1
    if not rule or not raw then
      q = nil
      break
    end
    local limit = rule + 2
    for _ = 1, byte(head, rule) do
      local held, real, ch, cl = get('<I7I7I7I6', op, q)
      local piece
      if byte(head, limit) == BUCKET then
        local all, base, bh, bl = get('<I7I6I7I6', head, limit + 1)
        local was, h, l, dl, open, a, z, _
        local epochs = byte(raw, place + 20)
        if epochs == ALONE then
          was, h, l, _, _, dl = get('<I7I7I6BI7I7', raw, place)
          open, a, z, place = 1, 0, 0, place + 49
        elseif epochs == 1 then
          was, _, _, _, _, dl, open, _, h, l, a, z = get('<I7I7I6BI7I7I4I7I7I6I7I7', raw, place)
          place = place + 91
        end
        limit = limit + 27
        if open == 1 and dl > now and was == all then
          if real > held then
            if a < seq then
              h, l = h + ch, l + cl
              if l >= base then h, l = h + 1, l - base end
            end
          elseif z < seq then
            h, l = h - ch, l - cl
            if l < 0 then h, l = h - 1, l + base end
          end
          if h < now or h == now and l == 0 then
            piece = put('<I7I7I6B', all, 0, 0, 0)
          elseif h < now + bh or h == now + bh and l <= bl then
            piece = put('<I7I7I6B', all, h, l, 0)
            if h >= till then till = h + 1 end
          end
        end
      else
        local all, number, from, to = get('<I7I7I7I7', head, limit + 1)
        local others, last, current, sum
        others, last, current, sum, place = get('<I7I7I7I7', raw, place)
        if last <= now then others, last = 0, 0 end
        if current == number and from <= made then
          sum = sum + real - held
          if sum < 0 then sum = 0 end
        end
        others, limit = others - held, limit + 29
        if current ~= number or sum <= all then
          piece = put('<I7I7I7I7', others > 0 and others or 0, last, current, sum)
          if last > till then till = last end
          if current == number and sum > 0 and to > till then till = to end
        end
      end
      if not piece then
        -- More is open on it, or it is in debt, which the receipt is to say.
        q = nil
        break
      end
      after, q = after and after .. piece or piece, q + 34
    end
    if not q then break end
    changes[k], changes[k + 1], changes[k + 2] = at, after, till
  end
  if q then record, answer = receipt, 'D' end
end

if record then
  if many then write(KEYS[rec], record, life) else call('SET', KEYS[rec], record, 'PX', life) end
  raws[rec] = nil
  for k = 1, 3 * n, 3 do
    local at = changes[k]
    raws[at], tills[at] = changes[k + 1], changes[k + 2]
  end
end
