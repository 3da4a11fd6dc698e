-- Says where the order is, and begins a new term of it if what it was can no longer be relied on. What it writes then is
-- small, and is written also if Redis is full.
--
-- A Redis that takes no writes runs it with the flag no-writes, and "look" for its last argument: then it only looks.
--
-- KEYS: meta, log, miles.
-- ARGV: format; the node's epoch (empty if it has none) and the newest offset that it knows there; the newest offset that
-- it knows of any term; the epoch whose order is to be given up (empty if none); a fresh epoch; and perhaps "look".
--
-- Returns {'format', what is there}, {'again'} if the fresh epoch is used, {'closed'} if it had to write, or {'ok', newest offset, its tag, terms, oldest
-- entry: id, tag, tag before it, counts}.

local function decimal(number) return string.format('%.0f', number) end

local meta = redis.call('HMGET', KEYS[1], 'v', 'r', 'e', 'n', 't', 'g')
if meta[1] and meta[1] ~= ARGV[1] then return {'format', meta[1]} end
local replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
local epoch, seen, high, given_up, fresh = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6]
local is_there = meta[1] and meta[2] and meta[3] and meta[4] and meta[5]
local newest, terms, tag = tonumber(meta[4] or '0'), meta[5] or '', meta[6] or ''
if string.find(',' .. terms, ',' .. fresh .. ':', 1, true) then return {'again'} end

local begins
if not is_there or meta[3] == given_up then
  begins = 'root'
elseif meta[2] ~= replid then
  -- Another history may have gone on from here. What is here is what is shared.
  begins = 'child'
elseif meta[3] == epoch and newest < seen then
  -- It went back without a trace: offsets above may have been given out twice.
  begins = 'root'
end

local looks = ARGV[7] == 'look'
if begins and looks then return {'closed'} end
if begins then
  local first = (math.floor(math.max(newest, high) / 4294967296) + 2) * 4294967296
  local time = redis.call('TIME')
  local now = decimal(time[1] * 1000 + math.floor(time[2] / 1000))
  local before = ''
  if begins == 'root' then
    redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
    terms = fresh .. ':' .. decimal(first)
  else
    before = tag
    terms = terms .. ':' .. decimal(newest) .. ',' .. fresh .. ':' .. decimal(first)
    local _, commas = string.gsub(terms, ',', '')
    if commas >= 64 then terms = string.sub(terms, string.find(terms, ',', 1, true) + 1) end
  end
  redis.call('XADD', KEYS[2], decimal(first) .. '-0', 'g', fresh, 'm', now, 'p', before, 't', terms)
  redis.call('HSET', KEYS[1], 'v', ARGV[1], 'r', replid, 'e', fresh, 'n', decimal(first), 't', terms, 'g', fresh)
  if begins == 'root' then redis.call('HSET', KEYS[1], 'b', 0, 'k', now, 'h', 0) end
  newest, tag = first, fresh
end

-- The sequence numbers of lives that ended long ago.
if not looks and redis.call('HLEN', KEYS[1]) > 1024 then
  local fields = redis.call('HGETALL', KEYS[1])
  local ages = {}
  for at = 1, #fields, 2 do
    if string.sub(fields[at], 1, 2) == 's:' then
      ages[#ages + 1] = {fields[at], tonumber(string.match(fields[at + 1], ':(%d+)')) or 0}
    end
  end
  table.sort(ages, function(one, other) return one[2] < other[2] end)
  for at = 1, #ages - 512 do redis.call('HDEL', KEYS[1], ages[at][1]) end
end

local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
local fields = {}
if oldest then
  for at = 1, #oldest[2], 2 do fields[oldest[2][at]] = oldest[2][at + 1] end
end
return {'ok', decimal(newest), tag, terms, oldest and oldest[1] or '', fields.g or '', fields.p or '', fields.c or '0'}
