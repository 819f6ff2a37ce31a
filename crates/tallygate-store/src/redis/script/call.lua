-- Tallygate's decisions on Redis and Valkey: one call, many operations, each all or nothing.
--
-- KEYS    accounts first, in the order of their descriptions; then whatever operations name by number.
-- ARGV[1] who asks, the rules, and which of them each account is under; ARGV[2..] one operation each. Layouts: script.rs.
-- Answer  the time; each account as it stands now; the answer to each operation. The time alone, and nothing is
--         done, when a calendar window is not the one the caller thinks. The time and the numbers of the accounts that
--         cannot be read, and nothing is done, where there are such.
--
-- An instant is microseconds since 1970. The level of a bucket is the instant at which it is full again, and is
-- finer: `h` microseconds and `l` parts, `base` of which make one. Costs come ready made from the caller's exact
-- arithmetic, so that nothing multiplies here and every number stays exact below 2^53.
--
-- The server runs all of this for each call, and making a function takes it as long as a tenth of a plain decision. So there is
-- none on the way of what nearly all calls do (plain.lua); what is left to do then makes its functions when it is first needed,
-- as fields of one table, as one that is a local costs each other function that names it.
local KEYS, ARGV = KEYS, ARGV
local call, byte, get, put, ceil = redis.call, string.byte, struct.unpack, struct.pack, math.ceil

-- What stands for the number of epochs of a bucket on which one reservation alone was open from its first moment on.
local ALONE = 255

-- The kinds of limits that are looked at here: a bucket, a sliding and a fixed window.
local BUCKET, SLIDING, FIXED = 98, 115, 102

-- How many keys one command names: `unpack` fails at some 8,000 values.
local MOST = 1000

local head = ARGV[1]
local node, flags, prefix, rule_count, p = get('<c8BBc0I2', head)
-- Whether subscribers are seen, and whether more than one operation may be written at one go.
local alone, many = flags % 2, flags >= 2 and #ARGV > 2

-- Where the rules begin, and where each one does of which all limits are buckets or fixed windows.
local rules_at, starts = p, {}
for i = 1, rule_count do
  local start, n = p, byte(head, p)
  p = p + 2
  for _ = 1, n do
    local kind = byte(head, p)
    if kind == BUCKET then
      p = p + 27
    elseif kind == FIXED then
      local from, to = get('<I7I7', head, p + 15)
      if now < from or now >= to then return { put('<I7', now) } end
      p = p + 29
    else
      start = false
      p = p + (kind == SLIDING and 22 or 8)
    end
  end
  starts[i] = start
end

-- The accounts, and behind them the reservations that are to be made or to end.
local count, records
count, records, p = get('<I2I2', head, p)
local named = count + records
local raws = named > 0 and call('MGET', unpack(KEYS, 1, named < MOST and named or MOST)) or {}
for done = MOST, named - 1, MOST do
  local more = call('MGET', unpack(KEYS, done + 1, named - done < MOST and named or done + MOST))
  for i = 1, #more do raws[done + i] = more[i] end
end

-- An account is plain while its limits are fixed windows, and buckets on each of which one reservation is open at most, and
-- there is nothing besides. A plain one stays the text that is kept until an operation needs it as a table. `plain` has
-- where its rule begins, `tills` until when it is kept once it was changed.
local plain, tills, all_plain = {}, {}, true
for i = 1, count do
  local start, raw = starts[get('<I2', head, p + 4 * i - 4)], raws[i]
  local q = 1
  local limit = start and start + 2
  for _ = 1, start and raw and byte(head, start) or 0 do
    if byte(head, limit) == BUCKET then
      local n = byte(raw, q + 20)
      q, limit = q + (n == 0 and 21 or n == ALONE and 49 or n == 1 and 91 or #raw + 1), limit + 27
    else
      q, limit = q + 28, limit + 29
    end
  end
  if raw and q ~= #raw + 1 then start = false end
  plain[i] = start
  all_plain = all_plain and start
end

-- The accounts that are tables, and what is made for those, once there are any.
local accounts, f, operations

-- What plain.lua keeps from one operation to the next: the number of an account, its text and its end, one after the other;
-- a record until `deadline` begins with `begun` and is told as `said`, and most of a call are until the same instant.
local changes = { 0, 0, 0, 0, 0, 0 }
local deadline, begun, said

-- What each operation is answered; what went wrong with the last one, if anything did; and the record that it has made by then.
local answers, failed, unfinished = {}, nil, nil
