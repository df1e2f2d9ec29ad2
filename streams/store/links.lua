-- The links under some digests, in their order; nothing where there is none.
-- ARGV  1 what the packed hashes are called  2 the digests, ten bytes each
local links, n = {}, 0
for i = 1, #ARGV[2], 10 do
  local high, low = string.byte(ARGV[2], i, i + 1)
  n = n + 1
  links[n] = redis.call('HGET', ARGV[1] .. high * 256 + low, string.sub(ARGV[2], i + 2, i + 9))
end
return links
