-- A routed batch, saved before it is produced: what a message became is decided once.
-- KEYS  1 the source partition        ARGV  1 token  2 expected next offset  3 next offset  4 batch
local held = redis.call('HMGET', KEYS[1], 'token', 'next')
if held[1] ~= ARGV[1] then return 'FENCED' end
if held[2] and held[2] ~= ARGV[2] then return 'MOVED' end
redis.call('HSET', KEYS[1], 'next', ARGV[3], 'batch', ARGV[4])
return 'OK'
