-- What the ledger of usage needs to know of open reservations: a text for each, and the deadlines of all.
-- KEYS: the deadlines, then the memos. ARGV: five for each memo: what is to be done, the reservation, the memo, its deadline, and
-- when it goes by itself, in milliseconds.
-- keep: unless there is one. renew: if there is one. find: it is answered. take: and gone.
-- overdue: the reservations whose deadlines are not after that, one behind the other, at most as many as the memo says.
local deadlines, told = KEYS[1], {}
for at = 1, #KEYS - 1 do
  local key, first = KEYS[at + 1], 5 * at - 4
  local what, id, memo, deadline, gone = ARGV[first], ARGV[first + 1], ARGV[first + 2], ARGV[first + 3], ARGV[first + 4]
  told[at] = ''
  if what == 'find' or what == 'take' then
    told[at] = redis.call('get', key) or ''
    if what == 'take' then
      redis.call('del', key)
      redis.call('zrem', deadlines, id)
    end
  elseif what == 'overdue' then
    told[at] = table.concat(redis.call('zrangebyscore', deadlines, '-inf', deadline, 'limit', 0, memo))
  elseif redis.call('set', key, memo, 'pxat', gone, what == 'keep' and 'nx' or 'xx') then
    redis.call('zadd', deadlines, deadline, id)
  end
end
return told
