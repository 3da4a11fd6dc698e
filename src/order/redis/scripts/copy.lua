#!lua
-- Takes a copy of an order from elsewhere, in steps. Nodes that look meanwhile find a format that they do not know, and wait.
--
-- KEYS: meta, log, miles; then the keys that are claimed.
-- ARGV: the step, the name of the copy; then
--   begin: nothing
--   add: a mile (empty if there is none), the number of entries; for each its id, the number of its fields and values, and
--     these; for each key that is claimed what it is claimed for, and for how many milliseconds
--   end: fields and values of meta
--
-- Returns 'ok'; 'there' if there is an order already, or 'gone' if another copy took over: then nothing was changed.

local held, mine = redis.call('HGET', KEYS[1], 'v'), 'copy ' .. ARGV[2]
if ARGV[1] == 'begin' then
  -- A copy that was broken off is no order.
  if held and string.sub(held, 1, 5) ~= 'copy ' then return 'there' end
  redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
  redis.call('HSET', KEYS[1], 'v', mine)
  return 'ok'
end
if held ~= mine then return 'gone' end
if ARGV[1] == 'end' then
  redis.call('HSET', KEYS[1], unpack(ARGV, 3))
  return 'ok'
end
if ARGV[3] ~= '' then redis.call('RPUSH', KEYS[3], ARGV[3]) end
local at = 5
for _ = 1, tonumber(ARGV[4]) do
  local count = tonumber(ARGV[at + 1])
  redis.call('XADD', KEYS[2], ARGV[at], unpack(ARGV, at + 2, at + 1 + count))
  at = at + 2 + count
end
for key = 4, #KEYS do
  redis.call('SET', KEYS[key], ARGV[at], 'PX', ARGV[at + 1])
  at = at + 2
end
return 'ok'
