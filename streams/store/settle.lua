-- A saved batch has been produced: it goes, unless a link that it told has changed meanwhile.
-- KEYS  1 the source partition  2 who restores links
-- ARGV  1 token  2 what the packed hashes of links are called  3 the offset behind the batch
--       then: digest, the link as it was produced ('' none) ...
-- Gives 0 when the partition stands before that offset or links are being restored: Redis has gone back, and what it
-- says of links is not the latest. Else 1, and digest and link ('' none) of each that is another now.
local following = tonumber(ARGV[3])
local stands = tonumber(redis.call('HGET', KEYS[1], 'next') or '0')
if stands < following or redis.call('EXISTS', KEYS[2]) == 1 then return {0} end
local changed = {1}
for i = 4, #ARGV, 2 do
  local high, low = string.byte(ARGV[i], 1, 2)
  local link = redis.call('HGET', ARGV[2] .. high * 256 + low, string.sub(ARGV[i], 3)) or ''
  if link ~= ARGV[i + 1] then
    changed[#changed + 1] = ARGV[i]
    changed[#changed + 1] = link
  end
end
if #changed == 1 and redis.call('HGET', KEYS[1], 'token') == ARGV[1] then redis.call('HDEL', KEYS[1], 'batch') end
return changed
