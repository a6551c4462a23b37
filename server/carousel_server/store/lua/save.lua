-- KEYS: sessions, which may come more than once. ARGV: server, address, time to live in ms, numbers
-- (int64: token, delivered and step of each), marks (JSON list of names, '' for none at all),
-- headers (JSON list of texts; '' on a first try, since few records are ever lost), then each
-- checkpoint's bytes. Returns 1 where it was written, 0 where it is refused, 2 where a header is
-- needed.
local server, address, ttl, numbers = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local marks = ARGV[5] ~= '' and cjson.decode(ARGV[5])
local headers = ARGV[6] ~= '' and cjson.decode(ARGV[6])

local waits = {} -- sessions that need a header: what comes behind has to wait for it

local function prune(key, delivered, step)
  local steps, newest = steps_of(key), step
  if delivered >= 0 and step > delivered then
    newest = -1
    for _, one in ipairs(steps) do
      if one <= delivered and one > newest then
        newest = one
      end
    end
  end
  for _, one in ipairs(steps) do
    if one < newest or one > step then
      drop(key, one)
    end
  end
end

local function write(i, key, delivered, step)
  local mark, data = marks and marks[i] or '', ARGV[6 + i]
  if mark ~= '' then
    redis.call('HSET', key, 'm:' .. mark, struct.pack('<i8', step) .. data)
  else
    redis.call('HSET', key, 'c:' .. whole(step), data)
    prune(key, delivered, step)
  end
  live(key, ttl)
  return 1
end

local function anew(i, key, there, token, step)
  if not headers then
    waits[key] = true
    return 2
  end
  forget(key, there)
  redis.call('HSET', key, 'header', headers[i], 'owner', server, 'address', address,
             'token', whole(token), 'c:' .. whole(step), ARGV[6 + i])
  return write(i, key, -1, step)
end

local done = {}
for i, key in ipairs(KEYS) do
  local token, delivered, step = struct.unpack('<i8i8i8', numbers, 24 * i - 23)
  local there = redis.call('HMGET', key, 'token', 'owner', 'gone')
  local known = tonumber(there[1] or there[3]) or 0
  if waits[key] then
    done[i] = 2
  elseif token > known then
    done[i] = anew(i, key, there, token, step)
  elseif there[1] and token == known and there[2] == server then
    done[i] = write(i, key, delivered, step)
  else
    done[i] = 0
  end
end
return done
