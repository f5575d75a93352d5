-- Requests in turn with each key of a file, made before the clock runs.
-- Arguments: the file of keys, the path, and for a POST the file of its body.

local requests, at = {}, 0

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

function init(arguments)
  local body = arguments[3] and read(arguments[3])
  for key in read(arguments[1]):gmatch("[^\n]+") do
    local headers = {["X-Api-Key"] = key, ["Host"] = "bench"}
    if body then
      headers["Content-Type"] = "application/json"
    end
    requests[#requests + 1] = wrk.format(body and "POST" or "GET", arguments[2], headers, body)
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary)
  local e = summary.errors
  io.write(string.format('{"requests": %d, "refused": %d, "broken": %d}\n',
    summary.requests, e.status, e.connect + e.read + e.write + e.timeout))
end
