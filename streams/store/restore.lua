-- Links that Redis has lost come again from their topic; meanwhile nobody saves or settles anything.
-- KEYS  1 who restores links  2 the last change of a link
-- ARGV  1 what to do  2 token  3 what the packed hashes of links are called
--       begin: 4 whom to follow who has stopped ('' nobody)
--       forget: 4 the first of the packed hashes  5 the one behind the last
--       links: digest, link ('' none) ...
--       end: 4 what this change is called  5 of how many messages of each partition links may tell more than the log
--            then: key of a source partition, up to where it is in doubt ('' not at all), incarnation,
--            how many batches were redone ...
-- Gives 1, or 0 when it is not for this token.
local what, held = ARGV[1], redis.call('HGET', KEYS[1], 'token')
if what == 'begin' then
  if held and held ~= ARGV[4] then return 0 end
  redis.call('HSET', KEYS[1], 'token', ARGV[2], 'done', 0)
  return 1
end
if held ~= ARGV[2] then return 0 end

local steps = {
  forget = function()
    for bucket = tonumber(ARGV[4]), tonumber(ARGV[5]) - 1 do redis.call('DEL', ARGV[3] .. bucket) end
  end,
  links = function()
    for i = 4, #ARGV, 2 do
      local high, low = string.byte(ARGV[i], 1, 2)
      local key, field = ARGV[3] .. high * 256 + low, string.sub(ARGV[i], 3)
      if ARGV[i + 1] == '' then redis.call('HDEL', key, field) else redis.call('HSET', key, field, ARGV[i + 1]) end
    end
  end,
  ['end'] = function()
    for i = 6, #ARGV, 4 do
      local source, doubt, incarnation = ARGV[i], ARGV[i + 1], ARGV[i + 2]
      redis.call('HSET', source, 'wary', ARGV[5])
      if doubt ~= '' then
        redis.call('HDEL', source, 'batch', 'last')
        if (redis.call('HGET', source, 'incarnation') or '0') ~= incarnation then redis.call('HDEL', source, 'next') end
        redis.call('HSET', source, 'doubt', doubt, 'incarnation', incarnation, 'redone', ARGV[i + 3])
      end
    end
    redis.call('SET', KEYS[2], ARGV[4])
  end,
}
steps[what]()
if what == 'end' then redis.call('DEL', KEYS[1]) else redis.call('HINCRBY', KEYS[1], 'done', 1) end
return 1
