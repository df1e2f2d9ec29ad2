-- The digests of the links that name one of some people.
-- ARGV  1 what the packed hashes are called  2 the first of them  3 the one behind the last  4.. people
local found = {}
for bucket = tonumber(ARGV[2]), tonumber(ARGV[3]) - 1 do
  local held = redis.call('HGETALL', ARGV[1] .. bucket)
  for i = 1, #held, 2 do
    for person = 4, #ARGV do
      if string.find(held[i + 1], ARGV[person], 1, true) then
        found[#found + 1] = string.char(math.floor(bucket / 256), bucket % 256) .. held[i]
        break
      end
    end
  end
end
return found
