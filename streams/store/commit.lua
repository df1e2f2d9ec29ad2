-- One batch of one partition: account states, position, wakes, memberships and outgoing changes, or nothing.
--
-- KEYS  1 meta  2 accounts  3 wakes  4 outbox  5 ruleset  6.. a set of members each
-- ARGV  1 token  2 expected offset  3 batch id  4 new offset  5 partition  6 ruleset files or ''
--       7 outbox entry or ''  8 n states  9 n wakes set  10 n wakes removed
--       then: account, state ...  |  instant, account ...  |  account ...
--       then, for each key from 6 on: n joined, n left, account ...
-- Gives {status, number}: OK or REPEATED with the earliest wake ('' for none), FENCED, MOVED with our offset.
-- Everything is checked before the first write.

local function earliest()
  local first = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
  return first[2] or ''
end

local meta = redis.call('HMGET', KEYS[1], 'token', 'batch', 'offset')
if meta[1] ~= ARGV[1] then return {'FENCED', ''} end
if meta[2] == ARGV[3] then return {'REPEATED', earliest()} end
if (meta[3] or '0') ~= ARGV[2] then return {'MOVED', meta[3] or '0'} end

local states, set, removed = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local at = 11 + 2 * states + 2 * set + removed
local groups = {}
for k = 6, #KEYS do
  local joined, left = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  if not joined or not left then return redis.error_reply('ISOTHERM malformed commit') end
  groups[k] = {at + 2, joined, left}
  at = at + 2 + joined + left
end
if at ~= #ARGV + 1 then return redis.error_reply('ISOTHERM malformed commit') end

-- unpack() puts its values on Lua's stack, which holds about 8,000: so in slices.
local function each(command, key, from, count)
  local last = from + count - 1
  for i = from, last, 4000 do
    redis.call(command, key, unpack(ARGV, i, math.min(i + 3999, last)))
  end
end

redis.call('HSET', KEYS[1], 'batch', ARGV[3], 'offset', ARGV[4], 'partition', ARGV[5])
each('HSET', KEYS[2], 11, 2 * states)
each('ZADD', KEYS[3], 11 + 2 * states, 2 * set)
each('ZREM', KEYS[3], 11 + 2 * states + 2 * set, removed)
for k, group in pairs(groups) do
  each('SADD', KEYS[k], group[1], group[2])
  each('SREM', KEYS[k], group[1] + group[2], group[3])
end
if ARGV[6] ~= '' then redis.call('SET', KEYS[5], ARGV[6]) end
if ARGV[7] ~= '' then redis.call('XADD', KEYS[4], ARGV[4] .. '-0', 'm', ARGV[7]) end
return {'OK', earliest()}
