-- KEYS: sessions. ARGV: server, address, time to live in ms, what stands before a server's id in
-- the key of its lease, delivered (int64 each, -1: not counted), 1 to take only what names nobody.
-- Returns each one's fields and values, nil where there is no record, {'held', server, address}
-- where a living server has it, or, of those left alone, any other server.
local server, address, ttl, lease, delivered = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local released_only = ARGV[6] == '1'

local function alive(holder)
  return released_only or redis.call('EXISTS', lease .. holder) == 1
end

-- Whether there is a place at or before that count to go on from.
local function can_go_on(key, count, steps)
  for _, step in ipairs(steps) do
    if step <= count then
      return true
    end
  end
  local read, header = pcall(cjson.decode, redis.call('HGET', key, 'header'))
  return read and type(header) == 'table' and header.initial
end

local function take(key, count)
  local steps = count >= 0 and steps_of(key) or {}
  if #steps > 0 and can_go_on(key, count, steps) then
    for _, step in ipairs(steps) do
      if step > count then
        drop(key, step)
      end
    end
  end
  redis.call('HINCRBY', key, 'token', 1)
  redis.call('HSET', key, 'owner', server, 'address', address)
  live(key, ttl)
  return redis.call('HGETALL', key)
end

local found = {}
for i, key in ipairs(KEYS) do
  local there = redis.call('HMGET', key, 'token', 'owner', 'address')
  local holder = there[2]
  if not there[1] then
    found[i] = false
  elseif holder ~= '' and holder ~= server and alive(holder) then
    found[i] = {'held', holder, there[3]}
  else
    found[i] = take(key, (struct.unpack('<i8', delivered, 8 * i - 7)))
  end
end
return found
