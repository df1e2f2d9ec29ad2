-- The links that name one of some people, or that lead to a visitor whose own link is one of some: digest, link ...
-- KEYS  1 the last change of a link, which says where all of them are
-- ARGV  1 what the packed hashes are called  2 the first of them  3 the one behind the last  4 n people, people ..
--       then digests in hexadecimal ..
local people, wanted = tonumber(ARGV[4]), {}
for i = 5 + people, #ARGV do wanted[ARGV[i]] = true end

local function is_meant(link)
  for i = 5, 4 + people do
    if string.find(link, ARGV[i], 1, true) then return true end
  end
  local key = next(wanted) and string.match(link, '^visitor:(.*)|')
  return key and wanted[string.sub(redis.sha1hex(key), 1, 20)]
end

local found = {}
for bucket = tonumber(ARGV[2]), tonumber(ARGV[3]) - 1 do
  local held = redis.call('HGETALL', ARGV[1] .. bucket)
  for i = 1, #held, 2 do
    if is_meant(held[i + 1]) then
      found[#found + 1] = string.char(math.floor(bucket / 256), bucket % 256) .. held[i]
      found[#found + 1] = held[i + 1]
    end
  end
end
return found
