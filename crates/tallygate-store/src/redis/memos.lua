-- What the ledger of usage needs to know of open reservations: a text beside each.
-- KEYS: the memos. ARGV: three for each: what is to be done, the memo, and when it goes by itself, in milliseconds.
-- keep: unless there is one. renew: if there is one. find: it is answered. take: and gone.
local told = {}
for at, key in ipairs(KEYS) do
  local what, memo, gone = ARGV[3 * at - 2], ARGV[3 * at - 1], ARGV[3 * at]
  told[at] = ''
  if what == 'find' or what == 'take' then
    told[at] = redis.call('get', key) or ''
    if what == 'take' then
      redis.call('del', key)
    end
  else
    redis.call('set', key, memo, 'pxat', gone, what == 'keep' and 'nx' or 'xx')
  end
end
return told
