
-- Running ----------------------------------------------------------------------------------------------------

local operations = { 'reserve', 'finish', 'extend', 'peek', 'look_up', 'leave', 'lease', 'retract' }
local answers = {}
for i = 2, #ARGV do answers[i - 1] = f[operations[byte(ARGV[i])]](ARGV[i], 2) end

local reply = { put('<I7', now) }
for i = 1, #accounts do
  local a = accounts[i]
  if a.gave and a.watched then f.tell_room(a) end
  if (a.gave or a.moved) and a.line[1] then f.wake(a) end
  reply[i + 1] = a.dirty and f.close_account(a) or a.raw or ''
end
for i = 1, #answers do reply[#reply + 1] = answers[i] end
return reply
