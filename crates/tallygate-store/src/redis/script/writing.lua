
-- Writing ----------------------------------------------------------------------------------------------------
-- A command costs more than what it writes. Where a server can write many keys at one go, those that live equally long
-- wait for each other: accounts to the end of the call, records until an operation comes that may look for them.

local write, write_waiting, life_till

if many then
  local waiting = {}

  local function write_each(batch, life)
    for i = 3, 2 * batch[2] + 2, 2 do call('SET', batch[i], batch[i + 1], 'PX', life) end
  end

  local function write_all(batch, life)
    local n = 2 * batch[2]
    if n == 2 then return write_each(batch, life) end
    batch[n + 3], batch[n + 4] = 'PX', life
    local done = redis.pcall(unpack(batch))
    -- Another server than the one that was asked may have taken over.
    if type(done) == 'table' and done.err then write_each(batch, life) end
  end

  function write(key, raw, life)
    local batch = waiting[life]
    if batch and batch[2] == MOST then
      write_all(batch, life)
      batch = nil
    end
    if not batch then
      waiting[life] = { 'MSETEX', 1, key, raw }
      return
    end
    local n = batch[2]
    batch[2], batch[2 * n + 3], batch[2 * n + 4] = n + 1, key, raw
  end

  function write_waiting()
    local batches = waiting
    waiting = {}
    for life, batch in pairs(batches) do write_all(batch, life) end
  end

  local last_till, last_life

  -- An account may outlive its meaning by an eighth, or 64 ms, and half a minute at most, so that more of them live equally long.
  function life_till(till)
    if till ~= last_till then
      local life, step = (till - now) / 1000 + 1, 64
      while step * 16 <= life and step < 32768 do step = step * 2 end
      last_till, last_life = till, life - life % step + step
    end
    return last_life
  end
end
