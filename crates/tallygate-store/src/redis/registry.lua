-- Keys and overrides of limits, one text of all of them beside a token of its version, and the log of changes.
local token, records, log = KEYS[1], KEYS[2], KEYS[3]
local op = ARGV[1]
if op == 'token' then
  return {redis.call('GET', token) or ''}
end
if op == 'load' then
  return {redis.call('GET', token) or '', redis.call('GET', records) or ''}
end
if op == 'log' then
  return redis.call('ZRANGE', log, ARGV[2], '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, ARGV[3])
end
-- A change: from this token to that one.
local now = redis.call('GET', token) or ''
if now == ARGV[3] then
  return {'done'}
end
if now ~= ARGV[2] then
  return {'other'}
end
redis.call('SET', token, ARGV[3])
redis.call('SET', records, ARGV[4])
redis.call('ZADD', log, ARGV[5], ARGV[6])
redis.call('ZREMRANGEBYSCORE', log, '-inf', ARGV[7])
redis.call('PUBLISH', ARGV[8], ARGV[3])
return {'done'}
