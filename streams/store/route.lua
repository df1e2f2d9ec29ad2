-- A routed batch, saved before it is produced, and what it taught: what a message became is decided once.
--
-- KEYS  1 the source partition  2 the last change of a link  3 who restores links
-- ARGV  1 token  2 expected next offset  3 next offset  4 batch  5 what its last message looks like
--       6 why to pause behind it ('' not)
--       7 what the packed hashes of links are called  8 the hash of conflicts  9 conflicts kept
--       10 as of which change links were read ('*': none were)
--       11 their digests ('': not told)  12 a sum over what they were
--       13 what this change is called, behind its number  14 whether something of the partition was saved before (1)  15 n conflicts
--       16 the highest number of a change that was seen  17 how many batches were redone
--       18 of how many messages behind it links may tell more than the log
--       then: domain, claims ...  |  digest, the new link ('' none) ...
-- Gives FENCED, MOVED, LATER when there was another change and it was not told what to look at, CHANGED when a link
-- is not what was read, or OK, the change before this one and this one. Everything is checked before the first
-- write. Where there is no token at all nobody took the partition over: Redis was emptied. Where the last change is
-- before one that was seen, Redis has gone back.
local held = redis.call('HMGET', KEYS[1], 'token', 'next', 'doubt')
if held[1] and held[1] ~= ARGV[1] then return {'FENCED'} end
if not held[1] or (held[2] or (ARGV[14] == '0' and ARGV[2])) ~= ARGV[2] then return {'MOVED'} end
if redis.call('EXISTS', KEYS[3]) == 1 then return {'MOVED'} end

local function place(digests, at)
  local high, low = string.byte(digests, at, at + 1)
  return ARGV[7] .. high * 256 + low, string.sub(digests, at + 2, at + 9)
end

local before = redis.call('GET', KEYS[2]) or ''
local number = tonumber(string.match(before, '^%d+') or '0')
if number < tonumber(ARGV[16]) then return {'MOVED'} end
if ARGV[10] ~= '*' and before ~= ARGV[10] then
  if ARGV[11] == '' then return {'LATER'} end
  local read, n = {}, 0
  for at = 1, #ARGV[11], 10 do
    n = n + 1
    read[n] = redis.call('HGET', place(ARGV[11], at)) or ''
  end
  if redis.sha1hex(table.concat(read, '\0')) ~= ARGV[12] then return {'CHANGED'} end
end

local links, change = 19 + 2 * tonumber(ARGV[15]), before
if links <= #ARGV then
  change = string.format('%d-%s', number + 1, ARGV[13])
  redis.call('SET', KEYS[2], change)
end
for i = links, #ARGV, 2 do
  local key, field = place(ARGV[i], 1)
  if ARGV[i + 1] == '' then redis.call('HDEL', key, field) else redis.call('HSET', key, field, ARGV[i + 1]) end
end
for i = 19, links - 1, 2 do
  if redis.call('HLEN', ARGV[8]) < tonumber(ARGV[9]) then redis.call('HSET', ARGV[8], ARGV[i], ARGV[i + 1]) end
end
redis.call('HSET', KEYS[1], 'next', ARGV[3], 'batch', ARGV[4], 'last', ARGV[5], 'redone', ARGV[17], 'wary', ARGV[18])
if held[3] and tonumber(ARGV[3]) >= tonumber(held[3]) then redis.call('HDEL', KEYS[1], 'doubt') end
if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'paused', ARGV[6]) end
return {'OK', before, change}
