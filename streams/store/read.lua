-- One reading command, if the partition still stands where its owner believes.
--
-- KEYS  1 meta  2 what is read
-- ARGV  1 token ('' for whoever does not own it, who reads in any case)  2 offset  3 'names': of what HSCAN finds,
--       not what is kept under them  4 the command  then: its arguments
-- Gives {status, answer}: OK with that of the command; FENCED, or MOVED with our offset, as `commit.lua` has them.
if ARGV[1] ~= '' then
  local meta = redis.call('HMGET', KEYS[1], 'token', 'offset')
  if meta[1] and meta[1] ~= ARGV[1] then return {'FENCED', ''} end
  if not meta[1] or (meta[2] or '0') ~= ARGV[2] then return {'MOVED', meta[2] or '0'} end
end
local found = redis.call(ARGV[4], KEYS[2], unpack(ARGV, 5))
if ARGV[3] == 'names' then
  local names = {}
  for i = 1, #found[2], 2 do names[#names + 1] = found[2][i] end
  found = {found[1], names}
end
return {'OK', found}
