-- Some names of a hash, without what is kept under them.
-- KEYS  1 a hash  ARGV  1 where to go on ('0' at first)  2 about how many
-- Gives where to go on ('0': that was all), and names; one may come twice.
local found, names = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2]), {}
for i = 1, #found[2], 2 do names[#names + 1] = found[2][i] end
return {found[1], names}
