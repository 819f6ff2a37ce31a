-- Each command that the script of decisions calls, once, on keys that go away by themselves in a moment.
-- Answers nothing, or the first that is refused and what was said.
local key, set, channel = KEYS[1], KEYS[2], ARGV[1]
local steps = {
  { 'GET', key },
  { 'MGET', key },
  { 'SET', key, '0', 'PX', '1000' },
  { 'SETRANGE', key, '0', '1' },
  { 'PEXPIRE', key, '1000' },
  { 'ZADD', set, '1', '1' },
  { 'PEXPIREAT', set, ARGV[2] },
  { 'ZRANGE', set, '0', '0', 'WITHSCORES' },
  { 'ZRANGEBYSCORE', set, '-inf', '0' },
  { 'ZREMRANGEBYSCORE', set, '-inf', '0' },
  { 'ZREM', set, '1' },
  { 'DEL', key, set },
  { 'PUBLISH', channel, '' },
}
-- Nodes of a Cluster do not know of each other's subscribers: the script does not ask there.
if ARGV[3] == 'alone' then steps[#steps + 1] = { 'PUBSUB', 'NUMSUB', channel } end
for _, step in ipairs(steps) do
  local answer = redis.pcall(unpack(step))
  if type(answer) == 'table' and answer.err then return { step[1], answer.err } end
end
return {}
