-- In front of every script.
--
-- One hash a session. A record: header (JSON), owner and address ('' when released), token,
-- c:STEP (a checkpoint's bytes), m:NAME (a mark's step as 8 bytes, then its bytes). What is
-- remembered of one that was removed: gone (its token), nothing else.

local function live(key, milliseconds)
  if tonumber(milliseconds) > 0 then
    redis.call('PEXPIRE', key, milliseconds)
  else
    redis.call('PERSIST', key)
  end
end

-- Numbers are doubles here, which Lua would write as 1e+15.
local function whole(number)
  return string.format('%.0f', number)
end

local function steps_of(key)
  local steps = {}
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.sub(field, 1, 2) == 'c:' then
      steps[#steps + 1] = tonumber(string.sub(field, 3))
    end
  end
  return steps
end

local function drop(key, step)
  redis.call('HDEL', key, 'c:' .. whole(step))
end

-- Once a script has changed anything, DEL of nothing included, Redis lets it go on although its memory
-- is full; so that a full one refuses, nothing is done where there is nothing to do.
local function forget(key, there)
  if there[1] or there[3] then
    redis.call('DEL', key)
  end
end
