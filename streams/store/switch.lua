-- A partition that was folded once more, in another namespace of the same slot, takes the place of the live one, or
-- nothing happens.
--
-- KEYS  1 live meta  2 live outbox  3 fresh meta  4.. live keys that go, then pairs: fresh key, live key
-- ARGV  1 live token  2 fresh token  3 offset at which both must stand  4 batch id  5 partition  6 n live keys that go
--       then, for each entry that is added to the outbox: id, entry
-- Gives {status, number}: OK; FENCED when either has another owner by now; MOVED with the live offset, or BEHIND with
-- the fresh one, where that is not the one asked for. What waits in the live outbox stays. The live partition is
-- nobody's afterwards: whoever held it writes nothing more before taking it over anew.
-- Everything is checked before the first write.

local live = redis.call('HMGET', KEYS[1], 'token', 'offset')
local fresh = redis.call('HMGET', KEYS[3], 'token', 'offset')
if live[1] ~= ARGV[1] or fresh[1] ~= ARGV[2] then return {'FENCED', ''} end
if live[2] ~= ARGV[3] then return {'MOVED', live[2] or '0'} end
if fresh[2] ~= ARGV[3] then return {'BEHIND', fresh[2] or '0'} end

local pairs_from = 4 + tonumber(ARGV[6])
if (#KEYS - pairs_from + 1) % 2 ~= 0 or #ARGV % 2 ~= 0 then return redis.error_reply('ISOTHERM malformed switch') end
for k = pairs_from, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[k]) == 0 then return redis.error_reply('ISOTHERM malformed switch') end
end

-- First what may be refused for want of memory, or for an id that is too low: then nothing has been written.
for i = 7, #ARGV, 2 do redis.call('XADD', KEYS[2], ARGV[i], 'm', ARGV[i + 1]) end
redis.call('HSET', KEYS[1], 'batch', ARGV[4], 'partition', ARGV[5])
redis.call('HDEL', KEYS[1], 'token')
redis.call('UNLINK', KEYS[3])
for k = 4, pairs_from - 1 do redis.call('UNLINK', KEYS[k]) end
for k = pairs_from, #KEYS, 2 do redis.call('RENAME', KEYS[k], KEYS[k + 1]) end
return {'OK', ARGV[3]}
