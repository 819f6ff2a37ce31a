
-- Lines ------------------------------------------------------------------------------------------------------
-- An account's line has one entry for each limit and process: the process's head, by its arrival. A process that has
-- died is known by its channel having no subscriber; where that cannot be seen (on a Cluster), by its not having
-- come again in time.

local alive_nodes = { [node] = true }

local function channel(of) return prefix .. ':n:' .. of end

function f.read_line(a, raw, q)
  local n
  n, q = get('<B', raw, q)
  a.line = {}
  for i = 1, n do
    local e = {}
    e.limit, e.node, e.order, e.queued, e.till, e.turn, q = get('<Bc8I7I7I7I7', raw, q)
    a.line[i] = e
  end
  return q
end

-- Line and shares as they are kept, and until when.
function f.write_others(a)
  local out, till = {}, 0
  if a.line[1] then
    out[#out + 1] = put('<c1B', 'l', #a.line)
    for _, e in ipairs(a.line) do
      out[#out + 1] = put('<Bc8I7I7I7I7', e.limit, e.node, e.order, e.queued, e.till, e.turn)
      till = max(till, e.till)
    end
  end
  if a.leases[1] then till = max(till, f.write_shares(a, out)) end
  return concat(out), till
end

local function is_alive(e)
  if e.till <= now then return false end
  if alive_nodes[e.node] == nil then
    alive_nodes[e.node] = alone == 0 or call('PUBSUB', 'NUMSUB', channel(e.node))[2] > 0
  end
  return alive_nodes[e.node]
end

-- Whether a live entry of a limit's line came before `order`; entries of the dead are taken out.
function f.is_behind(a, j, order)
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

-- Whose place a process has in a limit's line, by its arrival.
local function leader(a, j)
  for i = 1, #a.line do
    local e = a.line[i]
    if e.limit == j and e.node == node then return e.order end
  end
end

function f.leads(a, j, order) return leader(a, j) == order end

-- Whether one behind this caller of its process stands in a limit's line.
function f.is_past(a, j, order)
  local first = leader(a, j)
  return first and first > order
end

function f.leave_line(a, j)
  if remove_entry(a, j) then a.moved = true end
end

function f.enter_line(a, j, e)
  local before = remove_entry(a, j)
  -- Another may be first now.
  if before and before < e.order then a.moved = true end
  if #a.line >= 250 then return end
  if not a.line[1] then a.line = {} end
  local at = 1
  while a.line[at] and a.line[at].order <= e.order do at = at + 1 end
  table.insert(a.line, at, e)
  a.dirty = true
end

-- The first of a process goes, and the next one, if there is one, has its place.
function f.hand_on(a, j, order, queued, stay)
  f.leave_line(a, j)
  if order == 0 then return end
  f.enter_line(a, j, { limit = j, node = node, order = order, queued = queued, till = now + stay, turn = 0 })
end

-- Tells the first of each line of an account that something has changed for it.
function f.wake(a)
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

-- Tells whoever remembers a denial.
function f.tell_room(a)
  a.watched, a.dirty = nil, true
  call('PUBLISH', prefix .. ':room', a.key)
end

function f.leave(op, q)
  local at, limit = get('<I2B', op, q)
  f.leave_line(accounts[at], limit)
  return 'S'
end

-- Asks the other holders of shares of an account to give back what they do not need.
function f.recall(a)
  for _, e in ipairs(a.leases) do
    local amount = 0
    for j = 1, #a do amount = amount + e[j].amount end
    if e.asked == 0 and e.node ~= node and amount > 0 then
      e.asked, a.dirty = 1, true
      call('PUBLISH', channel(e.node), 'r' .. a.key)
    end
  end
end
