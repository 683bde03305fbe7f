--- A test harness in one page: named tests, equality with a readable difference, expected errors.
local harness = { passed = 0, failed = {}, skipped = {} }

-- What tests compare is drawn as where nothing asks for ASCII, whatever the locale they run in.
local getenv = os.getenv
os.getenv = function(name) return name == "LC_ALL" and "C.UTF-8" or getenv(name) end

--- ChatML as a model brings it along.
harness.chatml = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
  .. "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

local function show(value, depth)
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) ~= "table" or (depth or 0) > 4 then return tostring(value) end
  local keys, parts = {}, {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for i, key in ipairs(keys) do parts[i] = tostring(key) .. "=" .. show(value[key], (depth or 0) + 1) end
  return "{" .. table.concat(parts, ", ") .. "}"
end

function harness.test(name, body)
  local ok, message = xpcall(body, function(e) return type(e) == "string" and debug.traceback(e, 2) or e end)
  if ok then harness.passed = harness.passed + 1
  else harness.failed[#harness.failed + 1] = { name, tostring(message) } end
end

function harness.skip(name, reason) harness.skipped[#harness.skipped + 1] = name .. ": " .. reason end

function harness.equal(actual, expected, what)
  local a, b = show(actual), show(expected)
  if a ~= b then error(("%s\n  actual:   %s\n  expected: %s"):format(what or "values differ", a, b), 2) end
end

function harness.close(actual, expected, tolerance, what)
  if not (math.abs(actual - expected) <= tolerance) then
    error(("%s: %.17g is not within %g of %.17g"):format(what or "value", actual, tolerance, expected), 2)
  end
end

--- `body` must raise an error whose text contains every one of `parts`; returns the text.
function harness.raises(body, ...)
  local ok, message = pcall(body)
  if ok then error("expected an error, got none", 2) end
  message = tostring(message)
  for _, part in ipairs { ... } do
    if not message:find(part, 1, true) then error(("error %q does not contain %q"):format(message, part), 2) end
  end
  return message
end

--- Runs `body` with print and io.write captured; returns the text.
function harness.captured(body)
  local parts, print_, write_ = {}, print, io.write
  print = function(...)
    local items = table.pack(...)
    for i = 1, items.n do items[i] = tostring(items[i]) end
    parts[#parts + 1] = table.concat(items, "\t") .. "\n"
  end
  io.write = function(...) parts[#parts + 1] = table.concat({ ... }) end
  local ok, message = pcall(body)
  print, io.write = print_, write_
  if not ok then error(message, 0) end
  return table.concat(parts)
end

function harness.summary()
  for _, failure in ipairs(harness.failed) do io.stderr:write("FAILED ", failure[1], "\n  ", failure[2], "\n") end
  for _, line in ipairs(harness.skipped) do print("skipped " .. line) end
  print(("%d passed, %d failed"):format(harness.passed, #harness.failed))
  return #harness.failed == 0
end

return harness
