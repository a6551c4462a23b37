-- KEYS: sessions. Returns each one's fields and values, nil where there is no record.
local found = {}
for i, key in ipairs(KEYS) do
  found[i] = redis.call('HEXISTS', key, 'token') == 1 and redis.call('HGETALL', key)
end
return found
