local t = require "harness"
local native = require "qlora.native"
local json = require "qlora.json"
local talk = require "qlora.talk"
local serve = require "qlora.commands.serve"

--- A request, which keeps what it is answered.
local function request(method, path, fields)
  return { method = method, path = path, body = fields and json.encode(fields), text = "", gone = false,
    header = function() end,
    begin = function(self, status) self.status = status end,
    write = function(self, text) self.text = self.text .. text end,
    respond = function(self, status, _, text) self.status, self.text = status, text end,
    finish = function(self) self.is_finished = true end }
end

--- A model whose texts are as many "a" as there are tokens; those of the prompt "b" end early.
local function texts()
  local open, Sequence = {}, {}
  Sequence.__index = Sequence
  function Sequence:stop() self.reason, self.text = self.reason or "ended", ("a"):rep(self.written) end
  return { add = function(_, ids, options)
    open[#open + 1] = setmetatable({ read = #ids, written = 0, options = options, is_short = ids[1] == 98 }, Sequence)
    return open[#open]
  end, step = function()
    for _, one in ipairs(open) do
      if not one.reason then
        one.written = one.written + 1
        local goes_on = one.options.on_text "a"
        one.reason = goes_on == false and "ended" or one.is_short and one.written == 2 and "stop"
          or one.written == one.options.max_new_tokens and "length" or nil
        one.text = ("a"):rep(one.written)
      end
    end
  end }
end

--- Runs a server with two places on requests, and ends it after some passes.
local function served(requests, passes)
  local tokenizer = { encode = function(_, text) return { text:byte(1, -1) } end }
  local talker = { name = "m", names = {}, dirs = {}, use = function() end, stops = function(_, _, stop) return stop end,
    template = function() end, prompt = function(_, messages) return messages[1].content end,
    model = { tokenizer = tokenizer, config = { vocab_size = 256 }, positions = 100, generator = texts } }
  local kept = { native.http_server, native.interrupted, talk.open, talk.given }
  local waiting, is_stopped = table.move(requests, 1, #requests, 1, {}), false
  native.http_server = function()
    return { port = 1, waiting_limit = 512, next = function() return table.remove(waiting, 1) end,
      stop = function() is_stopped = true end }
  end
  native.interrupted = function()
    passes = passes - 1
    return passes < -1 -- the first call is before the first pass
  end
  talk.open, talk.given = function() return talker end, function() return "m", {} end
  local ok, message = pcall(t.captured, function() serve.run({ parallel = 2, host = "h", port = 1 }, {}) end)
  native.http_server, native.interrupted, talk.open, talk.given = table.unpack(kept)
  assert(ok, message)
  assert(is_stopped)
end

local function completion(prompt, stream)
  return request("POST", "/v1/completions", { prompt = prompt, max_tokens = 4, stream = stream })
end

t.test("answers say why they ended", function()
  local long, short, stream = completion "a", completion "b", completion("b", true)
  served({ long, short, stream }, 8)
  t.equal({ long.status, short.status, stream.status }, { 200, 200, 200 })
  local function choice(one) return json.decode(one.text).choices[1] end
  t.equal({ choice(long).text, choice(long).finish_reason }, { "aaaa", "length" })
  t.equal({ choice(short).text, choice(short).finish_reason }, { "aa", "stop" })
  assert(stream.text:find('"finish_reason":"stop"', 1, true) and stream.text:find "%[DONE%]\n\n$", stream.text)
end)

t.test("an answer that the end of the server cuts off, or that still waits for a place, is an error", function()
  local done, whole, waits = completion "b", completion "a", completion("a", true)
  served({ done, whole, waits }, 2)
  t.equal({ done.status, whole.status, waits.status }, { 200, 503, 503 })
  local stream, waits_too = completion("a", true), completion "a"
  served({ stream, completion "a", waits_too }, 2)
  t.equal({ stream.status, waits_too.status }, { 200, 503 })
  for _, one in ipairs { whole, waits, waits_too } do
    local found = json.decode(one.text).error
    t.equal({ found.type, found.message }, { "server_error", "the server is ending, and the answer is not whole" })
  end
  local last = stream.text:match "\n\ndata: ([^\n]+)\n\n$"
  t.equal(json.decode(last).error.type, "server_error")
  assert(stream.is_finished and not stream.text:find "DONE" and not stream.text:find '"stop"', stream.text)
end)

t.test("pieces say that they have no usage, HEAD is GET, and what is not computed is refused", function()
  local function asked(more)
    local body = { prompt = "b", max_tokens = 4 }
    for key, value in pairs(more) do body[key] = value end
    return request("POST", "/v1/completions", body)
  end
  local counted = asked { stream = true, stream_options = { include_usage = true } }
  local plain, likeliest, logprobs = asked { stream = true }, asked { top_p = 0 }, asked { logprobs = 0 }
  local head = request("HEAD", "/health")
  served({ counted, plain, likeliest, logprobs, head }, 12)
  local found = {}
  for event in counted.text:gmatch "data: ([^\n]+)" do found[#found + 1] = event:match '"usage":(.)' or event end
  t.equal(found, { "n", "n", "n", "{", "[DONE]" })
  assert(not plain.text:find "usage")
  t.equal({ likeliest.status, logprobs.status, head.status }, { 200, 400, 200 })
end)

t.test("what a request names that is not there has a code of its own", function()
  local path, model = request("GET", "/v1/nothing"), request("GET", "/v1/models/x")
  local other = request("POST", "/v1/completions", { prompt = "a", model = "x" })
  served({ path, model, other }, 1)
  t.equal({ path.status, model.status, other.status }, { 404, 404, 404 })
  local function code(one) return json.decode(one.text).error.code end
  t.equal({ code(path), code(model), code(other) }, { "unknown_url", "model_not_found", "model_not_found" })
end)
