"""What the Redis server itself does, in Lua: each script whole or not at all."""

from __future__ import annotations

SCHEMA = "2"  # in the first, popularity was not kept

# Keys, after the prefix:
# schema                 SCHEMA
# event, revision, said  the last number given of each
# ids                    event_id -> number
# events                 number -> event
# history:USER           number and event_id of each event, by its time
# products               product_id, by its revision
# product                product_id -> JSON, null where it was deleted
# feedback               number and row, by number
# said:USER              numbers of feedback
# users                  ids of all shoppers
# popular                product_id, by the weight of the latest events with it, negative: so equals are in their order
# counts                 product_id -> of how many events that is: what rounding leaves of a weight is no sign of one
# notes                  name -> JSON
# done:TOKEN             what a write returned
WRITE = """
local P, done = KEYS[1], KEYS[1] .. 'done:' .. KEYS[2]
local function number(name) return string.format('%%016d', redis.call('INCR', P .. name)) end
local LATELY = tonumber(KEYS[3])
local function count(n, sign)
    local text = redis.call('HGET', P .. 'events', string.format('%%016d', n))
    if not text then return end
    local event = cjson.decode(text)
    redis.call('ZINCRBY', P .. 'popular', string.format('%%.17g', -sign * event.weight), event.product_id)
    if redis.call('HINCRBY', P .. 'counts', event.product_id, sign) == 0 then
        redis.call('ZREM', P .. 'popular', event.product_id)
        redis.call('HDEL', P .. 'counts', event.product_id)
    end
end
local told = redis.call('GET', done)
if told then return tonumber(told) end
local result = 0
%s
redis.call('SET', done, result, 'EX', 300)
return result
"""
ADD_EVENTS = """
for i = 1, #ARGV, 4 do
    local event, user = ARGV[i], ARGV[i + 1]
    if redis.call('HEXISTS', P .. 'ids', event) == 0 then
        local n = number('event')
        redis.call('HSET', P .. 'ids', event, n)
        redis.call('HSET', P .. 'events', n, ARGV[i + 3])
        redis.call('ZADD', P .. 'history:' .. user, ARGV[i + 2], n .. event)
        redis.call('SADD', P .. 'users', user)
        count(n, 1)
        count(n - LATELY, -1)
        result = result + 1
    end
end
"""
PUT = """
for i = 1, #ARGV, 2 do
    redis.call('ZADD', P .. 'products', redis.call('INCR', P .. 'revision'), ARGV[i])
    redis.call('HSET', P .. 'product', ARGV[i], ARGV[i + 1])
end
result = tonumber(redis.call('GET', P .. 'revision') or 0)
"""
ADD_FEEDBACK = """
for i = 1, #ARGV, 3 do
    local n = number('said')
    redis.call('ZADD', P .. 'feedback', n, n .. ARGV[i])
    if ARGV[i + 1] == 'of' then
        redis.call('SADD', P .. 'said:' .. ARGV[i + 2], n)
        redis.call('SADD', P .. 'users', ARGV[i + 2])
    end
    result = result + 1
end
"""
NOTE = "redis.call('HSET', P .. 'notes', ARGV[1], ARGV[2])"
RENOTE = """
if (redis.call('HGET', P .. 'notes', ARGV[1]) or '') == ARGV[3] then
    redis.call('HSET', P .. 'notes', ARGV[1], ARGV[2])
    result = 1
end
"""
FORGET = """
local history, said = P .. 'history:' .. ARGV[1], P .. 'said:' .. ARGV[1]
local first = tonumber(redis.call('GET', P .. 'event') or 0) - LATELY + 1
for _, one in ipairs(redis.call('ZRANGE', history, 0, -1)) do
    local n = tonumber(one:sub(1, 16))
    if n >= first then count(n, -1) end
    redis.call('HDEL', P .. 'ids', one:sub(17))
    result = result + redis.call('HDEL', P .. 'events', one:sub(1, 16))
end
for _, n in ipairs(redis.call('SMEMBERS', said)) do
    result = result + redis.call('ZREMRANGEBYSCORE', P .. 'feedback', n, n)
end
redis.call('DEL', history, said)
redis.call('SREM', P .. 'users', ARGV[1])
"""
MIGRATE = """
if redis.call('GET', P .. 'schema') == '1' then
    local last = tonumber(redis.call('GET', P .. 'event') or 0)
    redis.call('DEL', P .. 'popular', P .. 'counts', P .. 'erasures')
    for n = math.max(1, last - LATELY + 1), last do count(n, 1) end
    redis.call('SET', P .. 'schema', '2')
end
"""
CHANGES = """
local P, rows = KEYS[1], {}
local found = redis.call('ZRANGEBYSCORE', P .. 'products', '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for i = 1, #found, 2 do
    rows[#rows + 1] = {found[i + 1], found[i], redis.call('HGET', P .. 'product', found[i])}
end
return rows
"""
# As one text: to read thousands of replies one by one would take Python many times as long.
POPULAR = "return cjson.encode(redis.call('ZRANGE', KEYS[1] .. 'popular', 0, ARGV[1] - 1, 'WITHSCORES'))"

_BODIES = {
    "add": ADD_EVENTS,
    "put": PUT,
    "say": ADD_FEEDBACK,
    "note": NOTE,
    "renote": RENOTE,
    "forget": FORGET,
    "migrate": MIGRATE,
}
WRITES = {name: WRITE % body for name, body in _BODIES.items()}
