-- Requests of a file, one after another, at a constant rate over all connections.
-- Arguments: file of lines `METHOD <tab> PATH <tab> BODY`; requests a second, 0 for as many as can
-- be; line to begin with, from 0. A request that is due is sent by the first connection that is
-- free. Run with one thread (-t1), as each thread has a state of its own.

local ffi = require("ffi")
ffi.cdef [[
typedef struct { long seconds; long nanoseconds; } moment;
int clock_gettime(int clock, moment *now);
]]
local MONOTONIC = 1
local moment = ffi.new("moment")

local function now()
   ffi.C.clock_gettime(MONOTONIC, moment)
   return tonumber(moment.seconds) + tonumber(moment.nanoseconds) / 1e9
end

local requests, at, interval, due = {}, 0, 0, nil
late = 0 -- most seconds that a request was sent after it was due

function init(args)
   local rate = tonumber(args[2])
   for line in io.lines(args[1]) do
      local method, path, body = line:match("^(%S+)\t(%S+)\t(.*)$")
      local headers = body ~= "" and { ["Content-Type"] = "application/json" } or nil
      requests[#requests + 1] = wrk.format(method, path, headers, body ~= "" and body or nil)
   end
   at = tonumber(args[3]) % #requests
   if rate > 0 then
      interval = 1 / rate
   else
      delay = nil
   end
end

-- Milliseconds until the next request is due; wrk asks for it each time that a connection is free.
function delay()
   local time = now()
   due = due or time
   local wait = due - time
   due = due + interval
   if -wait > late then late = -wait end
   return wait > 0 and math.floor(wait * 1000 + 0.5) or 0
end

function request()
   at = at % #requests + 1
   return requests[at]
end

local threads = {}
function setup(thread)
   threads[#threads + 1] = thread
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '{"requests": %d, "microseconds": %d, "p50": %d, "p90": %d, "p99": %d, "p999": %d, ' ..
      '"most": %d, "late": %f, "not_2xx": %d, "failed": %d}\n',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(90),
      latency:percentile(99), latency:percentile(99.9), latency.max, threads[1]:get("late"),
      errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
