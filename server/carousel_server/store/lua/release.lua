-- KEYS: sessions. ARGV: time to live in ms, tokens (int64 each). Returns 1 where the session has no
-- owner now, 0 where the token is another.
local done = {}
for i, key in ipairs(KEYS) do
  local token = struct.unpack('<i8', ARGV[2], 8 * i - 7)
  if redis.call('HGET', key, 'token') == whole(token) then
    redis.call('HSET', key, 'owner', '', 'address', '')
    live(key, ARGV[1])
    done[i] = 1
  else
    done[i] = 0
  end
end
return done
