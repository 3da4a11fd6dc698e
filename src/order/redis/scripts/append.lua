#!lua
-- Appends one entry, if the order is where the node believes it to be; else changes nothing and has the node attach.
--
-- KEYS: meta, log, miles, seqs; then the keys that the parts claim, in their order.
-- ARGV: format, epoch, seen, life, seq (empty for a tick), tag, bytes kept, milliseconds kept, number of parts; then for
-- each part: count of events, number of claims, for each claim (content, milliseconds kept, index of its first event,
-- count of its events), body.
--
-- Returns {'attach'}, {'stale'}, {'dup', offset}, or {'ok', newest offset, what became of each part}: 'a' appended,
-- 'r <claim> <epoch> <first> <last>' a repeat of what is there, 'o <claim>' the claim came with something else before, 's'
-- there was nothing to append.

-- Redis kept as much as fits into a double: offsets are below 2^53.
local function decimal(number) return string.format('%.0f', number) end

local meta = redis.call('HMGET', KEYS[1], 'v', 'r', 'e', 'n', 'g', 'b', 'k', 'h')
local replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
if meta[1] ~= ARGV[1] or meta[2] ~= replid or meta[3] ~= ARGV[2] or tonumber(meta[4]) < tonumber(ARGV[3]) then
  return {'attach'}
end

-- The newest four of each life: a node has two under way.
local life, seq = ARGV[4], ARGV[5]
local newest = {}
if seq ~= '' then
  local oldest
  for known, offset in string.gmatch(redis.call('HGET', KEYS[4], life) or '', '(%d+):(%d+)') do
    if known == seq then return {'dup', offset} end
    newest[#newest + 1] = known .. ':' .. offset
    oldest = tonumber(known)
  end
  if #newest == 4 and tonumber(seq) < oldest then return {'stale'} end
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
local at, key = 10, 4
for part = 1, tonumber(ARGV[9]) do
  local count, claim_count = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  -- One that has its answer from an earlier attempt keeps its place, with no events.
  local result = count == 0 and 's' or nil
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
  local body = ARGV[at + 2 + 4 * claim_count]
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
    bodies[#bodies + 1] = body
    counts[#counts + 1] = (part - 1) .. ':' .. count .. ':' .. #body
  end
  results[#results + 1] = result
  at = at + 3 + 4 * claim_count
  key = key + claim_count
end
results[2] = decimal(last)
local is_tick = ARGV[9] == '0'
if #bodies == 0 and not is_tick then return results end

-- From here on everything is written. A full Redis has refused the script before its first line.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id = decimal(last) .. (is_tick and '-*' or '-0')
local count = is_tick and '0' or table.concat(counts, ',')
local body = table.concat(bodies)
redis.call('XADD', KEYS[2], id, 'g', ARGV[6], 'c', count, 'm', decimal(now), 'p', meta[5], 'b', body)
for _, claim in ipairs(claims) do redis.call('SET', claim[1], claimed[claim[1]], 'PX', claim[2]) end
if seq ~= '' then
  table.insert(newest, 1, seq .. ':' .. decimal(last))
  newest[5] = nil
  redis.call('HSET', KEYS[4], life, table.concat(newest, ' '))
end

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
redis.call('HSET', KEYS[1], 'b', bytes, 'k', decimal(marked), 'h', held)
if not is_tick then redis.call('HSET', KEYS[1], 'n', decimal(last), 'g', ARGV[6]) end
return results
