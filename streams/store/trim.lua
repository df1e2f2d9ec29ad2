-- What is published leaves the outbox; whoever owns the partition notes how far its own words go.
-- KEYS 1 meta, 2 outbox. ARGV 1 the lowest id that stays, 2 token, 3 where our words end ("": we do not know).
redis.call('XTRIM', KEYS[2], 'MINID', '=', ARGV[1])
if ARGV[3] ~= '' and redis.call('HGET', KEYS[1], 'token') == ARGV[2] then
  redis.call('HSET', KEYS[1], 'words', ARGV[3])
end
return 1
