-- KEYS: sessions. ARGV: for how many ms a token is remembered, tokens (int64 each). Returns 1 where
-- there is no record now, 0 where the token is a higher one.
local done = {}
for i, key in ipairs(KEYS) do
  local token = struct.unpack('<i8', ARGV[2], 8 * i - 7)
  local there = redis.call('HMGET', key, 'token', 'gone')
  local known = tonumber(there[1] or there[2]) or 0
  if there[1] and known > token then
    done[i] = 0
  else
    redis.call('DEL', key)
    redis.call('HSET', key, 'gone', whole(math.max(token, known)))
    redis.call('PEXPIRE', key, ARGV[1])
    done[i] = 1
  end
end
return done
