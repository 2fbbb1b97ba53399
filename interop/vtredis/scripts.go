package vtredis

import "github.com/redis/go-redis/v9"

// All scripts take the same keys: 1 jobs, 2 ids, 3 state, 4 errors, 5 dead; and the
// group as their first argument.

// create makes the stream and its group where there are none. Ids that are left over
// from a stream that is gone would keep their jobs from being added again.
const create = `
if redis.call('EXISTS', KEYS[1]) == 0 then
	redis.call('DEL', KEYS[2], KEYS[4])
	redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
	local t = redis.call('TIME')
	redis.call('HSET', KEYS[3], 'born', t[1] .. '.' .. t[2])
end
`

// owner returns the consumer that has claimed an entry, and the number of its deliveries.
const owner = `
local function owner(entry)
	local p = redis.call('XPENDING', KEYS[1], ARGV[1], entry, entry, 1)[1]
	if p then return p[2], p[4] end
end
`

// leave takes an entry out of the queue, and reports whether it was there.
const leave = `
local function leave(id, entry)
	redis.call('XACK', KEYS[1], ARGV[1], entry)
	if redis.call('HGET', KEYS[2], id) == entry then
		redis.call('HDEL', KEYS[2], id)
		redis.call('HDEL', KEYS[4], id)
	end
	return redis.call('XDEL', KEYS[1], entry)
end
`

var openScript = redis.NewScript(create + `return redis.call('HGET', KEYS[3], 'born')`)

// ARGV: group, and id, start, estimate and deadline of each job.
var addScript = redis.NewScript(create + `
for i = 2, #ARGV, 4 do
	if redis.call('HEXISTS', KEYS[2], ARGV[i]) == 0 then
		local entry = redis.call('XADD', KEYS[1], '*', 'id', ARGV[i],
			'started', ARGV[i+1], 'expect', ARGV[i+2], 'deadline', ARGV[i+3])
		redis.call('HSET', KEYS[2], ARGV[i], entry)
	end
end
`)

// ARGV: group, ids.
var removeScript = redis.NewScript(leave + `
for i = 2, #ARGV do
	local entry = redis.call('HGET', KEYS[2], ARGV[i])
	if entry then leave(ARGV[i], entry) end
end
`)

// ARGV: group, id, prefix of the channels.
var hintScript = redis.NewScript(owner + `
local entry = redis.call('HGET', KEYS[2], ARGV[2])
local consumer = entry and owner(entry)
if consumer then redis.call('PUBLISH', ARGV[3] .. consumer, ARGV[2]) end
`)

// free is the consumer to which claims pass that a replica gives up: once they have lapsed, any
// replica may take them.
const free = "free"

// sweepScript takes the next step of the search for claims that have lapsed. All
// replicas share one position in the list of claims, so that the cost of the
// search does not grow with their number. A round begins when the period has passed
// since the last one began, and where claims can have lapsed: a consumer
// with claims has been silent for the idle time, or some are free. So a Redis that is overloaded, and late with
// renewals, is not loaded further. Without such a reason there is a round in ten idle times.
// The first round after a gap, in which Redis or all replicas were away, is put
// off: the living ones renew their claims first.
//
// ARGV: group, consumer, idle, most entries to claim, period, time to renew; in milliseconds. The answer
// is the queue's birth, whether the round is over, the entries that were claimed, and the number of
// claims that the consumer had before.
var sweepScript = redis.NewScript(`
local idle, period = tonumber(ARGV[3]), tonumber(ARGV[5])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local s = redis.call('HMGET', KEYS[3], 'born', 'swept', 'cursor', 'next', 'full')
local cursor, next, full = s[3] or '0-0', tonumber(s[4] or 0), tonumber(s[5] or 0)
if now - tonumber(s[2] or 0) > idle / 3 then
	cursor, next = '0-0', now + ARGV[6]
end
local mine, lapsed = 0, false
for _, c in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
	local name, claims, silent = c[2], c[4], c[6]
	if name == ARGV[2] then mine = claims end
	if claims > 0 then
		lapsed = lapsed or silent > idle or name == 'free'
	elseif silent > 10 * idle then
		redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], name)
	end
end
local search = cursor ~= '0-0'
if not search and now >= next then
	next, search = now + period, lapsed or now >= full
	if search then full = now + 10 * idle end
end
local found = {}
if search then
	local r = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], idle, cursor, 'COUNT', ARGV[4], 'JUSTID')
	cursor = r[1]
	for _, entry in ipairs(r[2]) do
		local m = redis.call('XRANGE', KEYS[1], entry, entry)[1]
		if m then
			found[#found+1] = m
		else
			redis.call('XACK', KEYS[1], ARGV[1], entry)
		end
	end
	if #found > 0 then redis.call('HINCRBY', KEYS[3], 'takeovers', #found) end
end
redis.call('HSET', KEYS[3], 'swept', now, 'cursor', cursor, 'next', math.floor(next), 'full', full)
return {s[1], cursor == '0-0' and 1 or 0, found, mine}
`)

// beginScript counts a delivery and returns its number; 0 if the claim has passed to
// another consumer. ARGV: group, consumer, entry.
var beginScript = redis.NewScript(owner + `
local consumer, count = owner(ARGV[3])
if consumer ~= ARGV[2] then return 0 end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'RETRYCOUNT', count + 1, 'JUSTID')
return count
`)

// ARGV: group, id, entry, number of the delivery.
var finishScript = redis.NewScript(leave + `
if leave(ARGV[2], ARGV[3]) == 1 then
	redis.call('HINCRBY', KEYS[3], 'delivery:' .. ARGV[4], 1)
end
`)

// failScript notes an error of handle and frees the claim, or moves the job to the dead letters if
// this was the last delivery. An empty text stands for a delivery that must not take place because
// all before it ended with the death of their replica or an error.
//
// ARGV: group, id, entry, consumer, number of the delivery, most deliveries, text.
var failScript = redis.NewScript(owner + leave + `
if owner(ARGV[3]) ~= ARGV[4] then return end
local count, text = tonumber(ARGV[5]), ARGV[7]
if text == '' then
	count = count - 1
	text = redis.call('HGET', KEYS[4], ARGV[2]) or 'each replica that began to handle it died'
else
	redis.call('HINCRBY', KEYS[3], 'failed', 1)
end
if count < tonumber(ARGV[6]) then
	redis.call('HSET', KEYS[4], ARGV[2], text)
	redis.call('XCLAIM', KEYS[1], ARGV[1], 'free', 0, ARGV[3], 'JUSTID')
	return
end
local fields = redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3])[1][2]
redis.call('XADD', KEYS[5], '*', 'error', text, 'deliveries', count, unpack(fields))
leave(ARGV[2], ARGV[3])
`)

// ownScript returns those entries that the consumer has claimed. ARGV: group, consumer, entries.
var ownScript = redis.NewScript(owner + `
local own = {}
for i = 3, #ARGV do
	if owner(ARGV[i]) == ARGV[2] then own[#own+1] = ARGV[i] end
end
return own
`)

// releaseScript frees claims of a consumer, which lapse now. ARGV: group, consumer, idle, entries.
var releaseScript = redis.NewScript(owner + `
for i = 4, #ARGV do
	if owner(ARGV[i]) == ARGV[2] then
		redis.call('XCLAIM', KEYS[1], ARGV[1], 'free', 0, ARGV[i], 'IDLE', ARGV[3], 'JUSTID')
	end
end
`)
