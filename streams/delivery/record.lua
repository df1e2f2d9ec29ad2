-- What came of deliveries of one partition, in order: stored for another attempt, or done with and recorded.
-- KEYS  1 status  2 what waits  3 records  4.. the sorted set of each outcome
-- ARGV  1 the partition's field in status  2 token  3 now  then for each set: how many it keeps
--       then: id, what is stored ('' nothing any more), the record ('' none), the number of its set ...
-- Gives 0 when the partition belongs to somebody else: nothing is written then.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
local sets = #KEYS - 3
for i = 4 + sets, #ARGV, 4 do
  local id, stored, record = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if stored ~= '' then
    redis.call('HSET', KEYS[2], id, stored)
  else
    redis.call('HDEL', KEYS[2], id)
  end
  if record ~= '' then
    for set = 4, #KEYS do redis.call('ZREM', KEYS[set], id) end
    redis.call('HSET', KEYS[3], id, record)
    redis.call('ZADD', KEYS[3 + tonumber(ARGV[i + 3])], ARGV[3], id)
  end
end
for set = 1, sets do
  local over = redis.call('ZCARD', KEYS[3 + set]) - tonumber(ARGV[3 + set])
  if over > 0 then
    local gone = redis.call('ZPOPMIN', KEYS[3 + set], over)
    for i = 1, #gone, 2 do redis.call('HDEL', KEYS[3], gone[i]) end
  end
end
return 1
