-- One batch of one partition: account states, position, wakes, memberships and outgoing changes, or nothing.
--
-- KEYS  1 meta  2 accounts  3 wakes  4 outbox  5 ruleset  6.. a set of members each  then a tally each
-- ARGV  1 token  2 expected offset  3 batch id  4 new offset  5 partition  6 ruleset files or ''
--       7 outbox entry or ''  8 n states  9 n forgotten  10 n wakes set  11 n wakes removed
--       12 n sets of members
--       then: account, state ...  |  account ...  |  instant, account ...  |  account ...
--       then, for each set of members: n joined, n left, account ...
--       then, for each tally: n, (what, how many more) ...; n = 0 forgets the tally
-- Gives {status, number}: OK or REPEATED with the earliest wake ('' for none), FENCED, MOVED with our offset. Where
-- there is no token at all nobody took the partition over: Redis was emptied.
-- Everything is checked before the first write; that is the outbox, which alone can refuse what is well-formed.

local function earliest()
  local first = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
  return first[2] or ''
end

local meta = redis.call('HMGET', KEYS[1], 'token', 'batch', 'offset')
if meta[1] and meta[1] ~= ARGV[1] then return {'FENCED', ''} end
if meta[2] == ARGV[3] then return {'REPEATED', earliest()} end
if not meta[1] or (meta[3] or '0') ~= ARGV[2] then return {'MOVED', meta[3] or '0'} end

local function malformed(what) return redis.error_reply('ISOTHERM malformed commit: ' .. what) end

local types = {'hash', 'hash', 'zset', 'stream', 'string'}
for k = 1, #KEYS do
  local expected = types[k] or (k < 6 + (tonumber(ARGV[12]) or 0) and 'set' or 'hash')
  local found = redis.call('TYPE', KEYS[k]).ok
  if found ~= 'none' and found ~= expected then return malformed(KEYS[k] .. ' is a ' .. found) end
end
for _, i in ipairs({4, 8, 9, 10, 11, 12}) do
  if not tonumber(ARGV[i]) then return malformed('argument ' .. i) end
end

local states, forgotten, set, removed = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local wakes = 13 + 2 * states + forgotten
local at = wakes + 2 * set + removed
local tallies = 6 + tonumber(ARGV[12])
for i = wakes, wakes + 2 * set - 1, 2 do
  if not tonumber(ARGV[i]) then return malformed('argument ' .. i) end
end
local groups = {}
for k = 6, tallies - 1 do
  local joined, left = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  if not joined or not left then return malformed('argument ' .. at) end
  groups[k] = {at + 2, joined, left}
  at = at + 2 + joined + left
end
local counted = {}
for k = tallies, #KEYS do
  local n = tonumber(ARGV[at])
  if not n then return malformed('argument ' .. at) end
  for i = at + 2, at + 2 * n, 2 do
    if not tonumber(ARGV[i]) then return malformed('argument ' .. at) end
  end
  counted[k] = {at + 1, n}
  at = at + 1 + 2 * n
end
if at ~= #ARGV + 1 then return malformed('argument ' .. at) end

-- unpack() puts its values on Lua's stack, which holds about 8,000: so in slices.
local function each(command, key, from, count)
  local last = from + count - 1
  for i = from, last, 4000 do
    redis.call(command, key, unpack(ARGV, i, math.min(i + 3999, last)))
  end
end

if ARGV[7] ~= '' then redis.call('XADD', KEYS[4], ARGV[4] .. '-0', 'm', ARGV[7]) end
redis.call('HSET', KEYS[1], 'batch', ARGV[3], 'offset', ARGV[4], 'partition', ARGV[5])
each('HSET', KEYS[2], 13, 2 * states)
each('HDEL', KEYS[2], 13 + 2 * states, forgotten)
each('ZADD', KEYS[3], wakes, 2 * set)
each('ZREM', KEYS[3], wakes + 2 * set, removed)
for k, group in pairs(groups) do
  each('SADD', KEYS[k], group[1], group[2])
  each('SREM', KEYS[k], group[1] + group[2], group[3])
end
for k, tally in pairs(counted) do
  if tally[2] == 0 then redis.call('DEL', KEYS[k]) end
  -- A number that has no room left stays as it is: a tally never stops a commit.
  for i = tally[1], tally[1] + 2 * tally[2] - 2, 2 do redis.pcall('HINCRBY', KEYS[k], ARGV[i], ARGV[i + 1]) end
end
if ARGV[6] ~= '' then redis.call('SET', KEYS[5], ARGV[6]) end
return {'OK', earliest()}
