
-- Running ----------------------------------------------------------------------------------------------------

local operations = { 'reserve', 'finish', 'extend', 'peek', 'look_up', 'leave', 'lease', 'retract' }
local answers = {}
for i = 2, #ARGV do
  local op = ARGV[i]
  local kind = byte(op)
  local answer
  if kind == 1 then
    answer = f.reserve_plainly(op)
  elseif kind == 2 then
    answer = f.finish_plainly(op)
  end
  if not answer then
    write_waiting()
    -- Whatever becomes of the reservation that it names.
    if kind <= 3 or kind == 8 then raws[get('<I2', op, 2)] = nil end
    answer = f[operations[kind]](op, 2)
  end
  answers[i - 1] = answer
end

local reply = { put('<I7', now) }
for i = 1, count do
  if plain[i] then
    reply[i + 1] = tills[i] and f.keep(KEYS[i], raws[i], tills[i], true) or raws[i] or ''
  else
    local a = accounts[i]
    if a.gave and a.watched then f.tell_room(a) end
    if (a.gave or a.moved) and a.line[1] then f.wake(a) end
    reply[i + 1] = a.dirty and f.close_account(a) or a.raw or ''
  end
end
write_waiting()
for i = 1, #answers do reply[count + 1 + i] = answers[i] end
return reply
