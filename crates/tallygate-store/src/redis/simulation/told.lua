-- For the simulation: the names of the processes that hear come with the call, and what is published is kept for it to carry.
local hearing = table.remove(ARGV)

local function hears(channel)
  local name = string.match(channel, ':n:(.*)$')
  if not name then return select(2, string.gsub(hearing, ' ', '')) end
  return string.find(hearing, name, 1, true) and 1 or 0
end

function as_told.PUBLISH(channel, payload)
  local heard = hears(channel)
  if heard > 0 then real('RPUSH', 'told', channel, payload) end
  return heard
end

function as_told.PUBSUB(_, channel) return { channel, hears(channel) } end
