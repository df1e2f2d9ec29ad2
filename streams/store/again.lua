-- A source topic was made anew: its partition is read from the beginning.
-- KEYS  1 the source partition  ARGV  1 token  2 incarnation
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'next', 'batch', 'last', 'doubt', 'redone')
redis.call('HSET', KEYS[1], 'incarnation', ARGV[2])
return 1
