-- wrk's requests, from a file: METHOD, path, Host, Authorization and body, with tabs between.
-- wrk … -- FILE COUNT DISTRIBUTION SEED: the first COUNT lines, chosen uniformly or by Zipf(1.1).
-- Prints one line of JSON after wrk's own report.

local prepared, cumulative = {}, {}
local zipf = false

function init(args)
  local file, count, seed = args[1], tonumber(args[2]), tonumber(args[4])
  zipf = args[3] == "zipf"
  math.randomseed(seed)
  for line in io.lines(file) do
    if #prepared == count then break end
    local method, path, host, authorization, body =
      line:match("^([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)\t(.*)$")
    local headers = { ["Accept"] = "application/json" }
    -- wrk writes its own Host only where none is given.
    if host ~= "" then headers["Host"] = host end
    if authorization ~= "" then headers["Authorization"] = authorization end
    if body ~= "" then headers["Content-Type"] = "application/json" else body = nil end
    prepared[#prepared + 1] = wrk.format(method, path, headers, body)
  end
  local total = 0
  for rank = 1, #prepared do
    total = total + 1 / rank ^ 1.1
    cumulative[rank] = total
  end
end

local function by_zipf()
  local wanted = math.random() * cumulative[#cumulative]
  local low, high = 1, #cumulative
  while low < high do
    local middle = math.floor((low + high) / 2)
    if cumulative[middle] < wanted then low = middle + 1 else high = middle end
  end
  return low
end

function request()
  if zipf then return prepared[by_zipf()] end
  return prepared[math.random(#prepared)]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "microseconds": %d, "failed_statuses": %d, "failed_sockets": %d, ' ..
    '"p50_us": %d, "p99_us": %d}\n',
    summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
