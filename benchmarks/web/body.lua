-- For wrk: POST the same file again and again, with headers, and print the figures as rotate.lua does.
--   wrk ... --script body.lua URL -- BODY [NAME VALUE]...

function init(arguments)
  wrk.method = "POST"
  local file = io.open(arguments[1], "rb")
  wrk.body = file:read("*all")
  file:close()
  for i = 2, #arguments, 2 do
    wrk.headers[arguments[i]] = arguments[i + 1]
  end
end

function done(summary, latency, _)
  local errors = summary.errors
  print(string.format(
    'FIGURES {"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "max_us": %d, ' ..
    '"errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
