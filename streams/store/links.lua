-- As of which change the links are read, then the links under some digests, in their order; nothing where none is.
-- KEYS  1 the last change of a link  ARGV  1 what the packed hashes are called  2 the digests, ten bytes each
local links, n = {redis.call('GET', KEYS[1]) or ''}, 1
for i = 1, #ARGV[2], 10 do
  local high, low = string.byte(ARGV[2], i, i + 1)
  n = n + 1
  links[n] = redis.call('HGET', ARGV[1] .. high * 256 + low, string.sub(ARGV[2], i + 2, i + 9))
end
return links
