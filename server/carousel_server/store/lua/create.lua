-- KEYS: sessions. ARGV: server, address, time to live in ms, steps (int64 each, -1: no checkpoint),
-- then for each session its header and its checkpoint. Returns tokens, 0 where the id is taken.
local server, address, ttl, steps = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local tokens = {}
for i, key in ipairs(KEYS) do
  local there = redis.call('HMGET', key, 'token', 'owner', 'gone')
  if there[1] and there[2] ~= server then
    tokens[i] = 0
  else
    local token = (tonumber(there[1] or there[3]) or 0) + 1
    local step = struct.unpack('<i8', steps, 8 * i - 7)
    forget(key, there)
    redis.call('HSET', key, 'header', ARGV[3 + 2 * i], 'owner', server, 'address', address,
               'token', whole(token))
    if step >= 0 then
      redis.call('HSET', key, 'c:' .. whole(step), ARGV[4 + 2 * i])
    end
    live(key, ttl)
    tokens[i] = token
  end
end
return tokens
