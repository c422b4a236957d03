-- For wrk: asks for one row after another, and prints what was measured as one line of JSON.
-- The first argument is the number of rows.

local requests, turn = {}, 0

function init(arguments)
   local rows = tonumber(arguments[1])
   wrk.method = "POST"
   wrk.headers["Content-Type"] = "application/json"
   -- Written out once, or wrk would spend the processor that the gateway is to have. A stride of a prime number
   -- visits all rows in no order.
   for number = 1, rows do
      requests[number] = wrk.format(nil, nil, nil, string.format('{"id": %d}', number * 7919 % rows + 1))
   end
end

function request()
   turn = turn % #requests + 1
   return requests[turn]
end

function done(summary, latency, _)
   local errors = summary.errors
   local failures = errors.connect + errors.read + errors.write + errors.status + errors.timeout
   io.write(string.format('{"requests": %d, "seconds": %.6f, "p99_ms": %.3f, "failures": %d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(99) / 1e3, failures))
end
