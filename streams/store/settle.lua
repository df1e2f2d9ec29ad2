-- A saved batch has been produced: it goes, unless a link that it told has changed meanwhile.
-- KEYS  1 the source partition
-- ARGV  1 token  2 what the packed hashes of links are called  then: digest, the link as it was produced ('' none) ...
-- Gives digest and link ('' none) of each that is another now.
local changed = {}
for i = 3, #ARGV, 2 do
  local high, low = string.byte(ARGV[i], 1, 2)
  local link = redis.call('HGET', ARGV[2] .. high * 256 + low, string.sub(ARGV[i], 3)) or ''
  if link ~= ARGV[i + 1] then
    changed[#changed + 1] = ARGV[i]
    changed[#changed + 1] = link
  end
end
if #changed == 0 and redis.call('HGET', KEYS[1], 'token') == ARGV[1] then redis.call('HDEL', KEYS[1], 'batch') end
return changed
