-- Blocks of the ledger of usage: one sorted set, by the time of each block's last record.
-- KEYS: the blocks; a token that is another one after each merge; to add, the deadlines of memos and the memos of what ends.
-- A block stands behind eight random bytes, so that one that is sent again is there once.
local blocks, token = KEYS[1], KEYS[2]
local what = ARGV[1]

-- add: the reservations that end, in the order of their memos, and then scores and blocks.
if what == 'add' then
  local ended = #KEYS - 3
  for at = 1, ended do
    redis.call('del', KEYS[at + 3])
    redis.call('zrem', KEYS[3], ARGV[at + 1])
  end
  for at = ended + 2, #ARGV, 2 do
    redis.call('zadd', blocks, ARGV[at], ARGV[at + 1])
  end
  return {}
end

if what == 'scan' then
  local found = redis.call('zrangebyscore', blocks, ARGV[2], ARGV[3], 'limit', ARGV[4], ARGV[5])
  table.insert(found, 1, redis.call('get', token) or '')
  return found
end

if what == 'drop' then
  redis.call('zremrangebyscore', blocks, '-inf', ARGV[2])
  return {}
end

-- merge: a token, the one block, then those that it holds; each with its score before it. All of them or none.
local gone = {}
for at = 5, #ARGV, 2 do
  if redis.call('zrem', blocks, ARGV[at + 1]) == 1 then
    gone[#gone + 1] = at
  end
end
if #gone * 2 < #ARGV - 4 then
  for _, at in ipairs(gone) do
    redis.call('zadd', blocks, ARGV[at], ARGV[at + 1])
  end
  return {}
end
redis.call('zadd', blocks, ARGV[3], ARGV[4])
redis.call('set', token, ARGV[2])
return { 'done' }
