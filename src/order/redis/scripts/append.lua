#!lua
-- Appends one entry, if the order is where the node believes it to be; else changes nothing and has the node attach.
--
-- KEYS: meta, log, miles; then the keys that the parts claim, in their order.
-- ARGV: format, epoch, seen, life, seq (empty for a tick), tag, bytes kept, milliseconds kept, number of parts; then for
-- each part: count of events, number of claims, for each claim (content, milliseconds kept, index of its first event,
-- count of its events), its batches as the entry counts them, body. A part is one batch with claims, or any number without.
--
-- Returns {'attach'}, {'stale'}, {'dup', offset}, or {'ok', newest offset, what became of each part with claims}: 'a'
-- appended, 'r <claim> <epoch> <first> <last>' a repeat of what is there, 'o <claim>' the claim came with something else
-- before.
--
-- Each call costs about as much as everything else for a small entry, so all of meta is read by one and written by one.

-- Redis kept as much as fits into a double: offsets are below 2^53.
local function decimal(number) return string.format('%.0f', number) end

local life, seq = 's:' .. ARGV[4], ARGV[5]
local meta = redis.call('HMGET', KEYS[1], 'v', 'r', 'e', 'n', 'g', 'b', 'k', 'h', life)
local replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
if meta[1] ~= ARGV[1] or meta[2] ~= replid or meta[3] ~= ARGV[2] or tonumber(meta[4]) < tonumber(ARGV[3]) then
  return {'attach'}
end

-- The newest four of each life, "<seq>:<offset> ...": a node has two under way.
local newest = meta[9] or ''
if seq ~= '' then
  local offset = string.match(' ' .. newest, ' ' .. seq .. ':(%d+)')
  if offset then return {'dup', offset} end
  local three, oldest = string.match(newest, '^(%d+:%d+ %d+:%d+ %d+:%d+) (%d+)')
  if oldest and tonumber(seq) < tonumber(oldest) then return {'stale'} end
  newest = three or newest
end

local is_known = {[meta[3]] = true}
local function known(epoch)
  if is_known[epoch] == nil then
    local terms = ',' .. redis.call('HGET', KEYS[1], 't')
    is_known[epoch] = string.find(terms, ',' .. epoch .. ':', 1, true) ~= nil
  end
  return is_known[epoch]
end

local last = tonumber(meta[4])
local claimed, claims, bodies, counts, results = {}, {}, {}, {}, {'ok', ''}
local at, key = 10, 3
for _ = 1, tonumber(ARGV[9]) do
  local count, claim_count = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local after = at + 2 + 4 * claim_count
  local result
  for claim = 0, claim_count - 1 do
    local name = KEYS[key + 1 + claim]
    local held = claimed[name] or redis.call('GET', name)
    if held and not result then
      local epoch, first, final, content = string.match(held, '^(%w+) (%d+) (%d+) (.*)$')
      if epoch and known(epoch) then
        if content == ARGV[at + 2 + 4 * claim] then
          result = 'r ' .. claim .. ' ' .. epoch .. ' ' .. first .. ' ' .. final
        else
          result = 'o ' .. claim
        end
      end
    end
  end
  if not result then
    result = 'a'
    for claim = 0, claim_count - 1 do
      local place = at + 2 + 4 * claim
      local first = last + 1 + tonumber(ARGV[place + 2])
      local final = first + tonumber(ARGV[place + 3]) - 1
      local name = KEYS[key + 1 + claim]
      claimed[name] = meta[3] .. ' ' .. decimal(first) .. ' ' .. decimal(final) .. ' ' .. ARGV[place]
      claims[#claims + 1] = {name, ARGV[place + 1]}
    end
    last = last + count
    counts[#counts + 1] = ARGV[after]
    bodies[#bodies + 1] = ARGV[after + 1]
  end
  if claim_count > 0 then results[#results + 1] = result end
  at = after + 2
  key = key + claim_count
end
results[2] = decimal(last)
local is_tick = seq == ''
if #bodies == 0 and not is_tick then return results end

-- From here on everything is written. A full Redis has refused the script before its first line.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id = decimal(last) .. (is_tick and '-*' or '-0')
local count = is_tick and '0' or counts[2] and table.concat(counts, ',') or counts[1]
local body = bodies[2] and table.concat(bodies) or bodies[1] or ''
redis.call('XADD', KEYS[2], id, 'g', ARGV[6], 'c', count, 'm', decimal(now), 'p', meta[5], 'b', body)
for _, claim in ipairs(claims) do redis.call('SET', claim[1], claimed[claim[1]], 'PX', claim[2]) end

-- A mile is what was appended since the last one: its end, its time, its bytes. The oldest go when all hold too much.
local bytes, marked, held = tonumber(meta[6]) + #body + 64, tonumber(meta[7]), tonumber(meta[8])
local bytes_max, age_max = tonumber(ARGV[7]), tonumber(ARGV[8])
if bytes >= math.min(1048576, bytes_max / 16) or (age_max > 0 and now - marked >= age_max / 16) then
  local length = redis.call('RPUSH', KEYS[3], decimal(last) .. ' ' .. decimal(now) .. ' ' .. bytes)
  held, bytes, marked = held + bytes, 0, now
  local trimmed
  while length > 1 do
    local offset, when, size = string.match(redis.call('LINDEX', KEYS[3], 0), '(%d+) (%d+) (%d+)')
    if held <= bytes_max and (age_max == 0 or now - tonumber(when) <= age_max) then break end
    redis.call('LPOP', KEYS[3])
    length, held, trimmed = length - 1, held - tonumber(size), tonumber(offset)
  end
  if trimmed then redis.call('XTRIM', KEYS[2], 'MINID', '~', decimal(trimmed + 1), 'LIMIT', 0) end
end
local marks = {'b', bytes, 'k', decimal(marked), 'h', held}
if is_tick then
  redis.call('HSET', KEYS[1], unpack(marks))
else
  newest = seq .. ':' .. decimal(last) .. (newest ~= '' and ' ' .. newest or '')
  redis.call('HSET', KEYS[1], 'n', decimal(last), 'g', ARGV[6], life, newest, unpack(marks))
end
return results
