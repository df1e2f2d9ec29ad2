-- A routed batch, saved before it is produced, and what it taught: what a message became is decided once.
--
-- KEYS  1 the source partition
-- ARGV  1 token  2 expected next offset  3 next offset  4 batch  5 what its last message looks like
--       6 what the packed hashes of links are called  7 the hash of conflicts  8 conflicts kept  9 n conflicts
--       then: domain, claims ...  |  digest, the link that was read ('' none, '*' whatever), the new one ('' none) ...
-- Gives OK, FENCED, MOVED, or CHANGED when a link is not what was read. Everything is checked before the first write.
local held = redis.call('HMGET', KEYS[1], 'token', 'next')
if held[1] ~= ARGV[1] then return 'FENCED' end
if held[2] and held[2] ~= ARGV[2] then return 'MOVED' end

local function place(digest)
  local high, low = string.byte(digest, 1, 2)
  return ARGV[6] .. high * 256 + low, string.sub(digest, 3)
end

local links = 10 + 2 * tonumber(ARGV[9])
for i = links, #ARGV, 3 do
  local key, field = place(ARGV[i])
  if ARGV[i + 1] ~= '*' and (redis.call('HGET', key, field) or '') ~= ARGV[i + 1] then return 'CHANGED' end
end
for i = links, #ARGV, 3 do
  local key, field = place(ARGV[i])
  if ARGV[i + 2] == '' then redis.call('HDEL', key, field) else redis.call('HSET', key, field, ARGV[i + 2]) end
end
for i = 10, links - 1, 2 do
  if redis.call('HLEN', ARGV[7]) < tonumber(ARGV[8]) then redis.call('HSET', ARGV[7], ARGV[i], ARGV[i + 1]) end
end
redis.call('HSET', KEYS[1], 'next', ARGV[3], 'batch', ARGV[4], 'last', ARGV[5])
return 'OK'
