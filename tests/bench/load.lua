-- For wrk: POSTs the requests of a file one after another, and prints what was measured as one line of JSON.
-- The first argument is the file: a path, a tab and a JSON body a line; the second, milliseconds that a connection
-- rests before each of its requests.

local requests, turn, rest = {}, 0, 0

function init(arguments)
   wrk.method = "POST"
   wrk.headers["Content-Type"] = "application/json"
   -- Written out once, or wrk would spend the processor that the contenders are to have.
   for line in io.lines(arguments[1]) do
      local path, body = line:match("^(%S+)\t(.*)$")
      requests[#requests + 1] = wrk.format(nil, path, nil, body)
   end
   rest = tonumber(arguments[2])
   if rest > 0 then
      function delay()
         return math.floor(rest * 2 * math.random()) -- never all at the same time
      end
   end
end

function request()
   turn = turn % #requests + 1
   return requests[turn]
end

function done(summary, latency, _)
   local errors = summary.errors
   io.write(string.format(
      '{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "refused": %d, "failures": %d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
