-- One link is another from now on, if it is what was read.
-- KEYS  1 the last change of a link  2 who restores links
-- ARGV  1 what the packed hashes are called  2 the digest  3 the link that was read ('' none)  4 the new one ('' none)
--       5 what this change is called, behind its number
-- Gives 1, or 0 when it is something else by now, or links are being restored.
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local high, low = string.byte(ARGV[2], 1, 2)
local key, field = ARGV[1] .. high * 256 + low, string.sub(ARGV[2], 3)
if (redis.call('HGET', key, field) or '') ~= ARGV[3] then return 0 end
local number = tonumber(string.match(redis.call('GET', KEYS[1]) or '', '^%d+') or '0')
redis.call('SET', KEYS[1], string.format('%d-%s', number + 1, ARGV[5]))
if ARGV[4] == '' then redis.call('HDEL', key, field) else redis.call('HSET', key, field, ARGV[4]) end
return 1
