--- answers clients of the OpenAI API: models, chat and completions, also as a stream
---
--- MODEL is what chat takes. It answers under its own name, each adapter under the adapter's. Requests are answered one
--- after the other, in the order of their coming; a client that goes away frees its place. It listens on this machine
--- only, unless --host says otherwise; Ctrl-C ends it.
local native = require "qlora.native"
local json = require "qlora.json"
local openai = require "qlora.openai"
local talk = require "qlora.talk"

local Service = {}
Service.__index = Service

--- The adapter that a name stands for: false for the base.
function Service:adapter(name)
  if name == nil or name == self.talk.name then return false end
  if self.talk.dirs[name] then return name end
  openai.fail(404, "model", "the model '%s' does not exist; there are %s", name, table.concat(self:names(), ", "))
end

--- The base and the adapters.
function Service:names() return { self.talk.name, table.unpack(self.talk.names) } end

--- The ids of a prompt, and how many tokens may follow.
function Service:prompt(body, is_chat)
  local prompt = body.prompt
  if is_chat then
    local ok, found = pcall(self.talk.prompt, self.talk, body.messages)
    if not ok then openai.fail(400, "messages", "%s", (tostring(found):gsub("^[^:]*:%d+: ", ""))) end
    prompt = found
  elseif type(prompt) == "table" and type(prompt[1]) == "string" then
    prompt = prompt[1]
  end
  local model = self.talk.model
  local ids = type(prompt) == "table" and prompt or model.tokenizer:encode(prompt, { special = true })
  for _, id in ipairs(ids) do
    if id < 0 or id >= model.config.vocab_size then openai.fail(400, "prompt", "there is no token %d", id) end
  end
  if #ids == 0 then openai.fail(400, is_chat and "messages" or "prompt", "the prompt is empty") end
  local room = model.positions - #ids
  if room < 1 then
    openai.fail(400, is_chat and "messages" or "prompt",
      "the prompt has %d tokens; the model reads %d, the answer included", #ids, model.positions)
  end
  return type(prompt) == "string" and prompt or ids, room
end

--- Answers a request for text.
function Service:complete(request, is_chat)
  local body = openai.read(request.body, is_chat and openai.chat_fields or openai.completion_fields,
    is_chat and "messages" or "prompt")
  local adapter = self:adapter(body.model)
  local prompt, room = self:prompt(body, is_chat)
  local sampling = openai.sampling(body, is_chat and room or math.min(16, room))
  self.talk:use(adapter or nil)
  local answer = openai.answer(is_chat, body.model or self.talk.name)
  local usage_wanted = body.stream and (body.stream_options or {}).include_usage
  if body.stream then
    request:begin(200, "text/event-stream; charset=utf-8")
    if is_chat then request:write(answer.piece("", nil, "assistant")) end
    if sampling.echo and type(prompt) == "string" then request:write(answer.piece(prompt)) end
  end
  local text, reason, read, written = self.talk:answer(prompt, sampling, function(piece)
    self.is_ending = native.interrupted()
    if self.is_ending or request.gone then return false end
    if body.stream then request:write(answer.piece(piece)) end
  end)
  if reason == "ended" then reason = "stop" end
  local usage = openai.usage(read, written)
  if body.stream then
    request:write(answer.piece(nil, reason))
    if usage_wanted then request:write(answer.usage(usage)) end
    request:write "data: [DONE]\n\n"
    request:finish()
  else
    request:respond(200, "application/json", answer.whole(text, reason, usage))
  end
  return ("%d + %d tokens"):format(read, written)
end

--- Answers one request.
function Service:answer(request)
  if self.key and request:header "Authorization" ~= "Bearer " .. self.key then
    openai.fail(401, nil, "the key is missing or wrong; send Authorization: Bearer KEY")
  end
  if request.too_long then openai.fail(413, nil, "the body is longer than 8 MiB") end
  local path = request.path:gsub("(.)/$", "%1")
  local wanted = (path == "/v1/chat/completions" or path == "/v1/completions") and "POST"
    or (path == "/v1/models" or path:find "^/v1/models/" or path == "/health") and "GET"
  if not wanted then openai.fail(404, nil, "there is nothing at %s", path) end
  if request.method ~= wanted then openai.fail(405, nil, "%s takes %s, not %s", path, wanted, request.method) end
  if wanted == "POST" then return self:complete(request, path == "/v1/chat/completions") end
  local found
  if path == "/health" then
    found = { status = "ok", waiting = self.server.waiting }
  elseif path == "/v1/models" then
    found = { object = "list", data = {} }
    for i, name in ipairs(self:names()) do found.data[i] = openai.model(name, self.started) end
  else
    local name = path:match "^/v1/models/(.+)$"
    self:adapter(name)
    found = openai.model(name, self.started)
  end
  request:respond(200, "application/json", json.encode(found))
end

--- One request to its end, whatever happens.
function Service:serve(request)
  local began = native.clock()
  local ok, done = pcall(self.answer, self, request)
  local status = 200
  if not ok then
    if type(done) == "table" and done.exit_code then error(done, 0) end
    local body
    status, body = openai.failure(done)
    request:respond(status, "application/json", body)
    request:finish()
  end
  if not native.options.quiet then
    io.stderr:write(("%s %s %s %d %.2f s%s\n"):format(os.date "%H:%M:%S", request.method, request.path, status,
      native.clock() - began, done and (": " .. tostring(done)) or ""))
  end
end

return {
  usage = "MODEL [--adapter NAME=DIR …] [--port N] [--host ADDRESS]", least = 1, most = 1,
  flags = {
    { "--adapter", "NAME=DIR", "an adapter that answers under NAME (repeatable)", list = true },
    { "--host", "ADDRESS", "numeric IPv4 address to listen at; 0.0.0.0 is every one of this machine",
      default = "127.0.0.1" },
    { "--port", "N", "port number; 0 takes one that is free", kind = "count", at_least = 0, at_most = 65535,
      default = 8080 },
    { "--api-key", "KEY", "clients must send this key" },
    { "--quant", "TYPE", "load the weights in nf4, fp4 or int4, or keep those of a .gguf file" },
  },
  run = function(o, arguments)
    local talker = talk.open(arguments[1], { quant = o.quant, adapters = o.adapter })
    local server = native.http_server { host = o.host, port = o.port }
    local self = setmetatable({ talk = talker, server = server, started = os.time(), key = o.api_key }, Service)
    print(("%s answers at http://%s:%d/v1"):format(table.concat(self:names(), ", "), o.host, server.port))
    io.flush()
    native.interrupted() -- from now on Ctrl-C asks here
    while not self.is_ending and not native.interrupted() do
      local request = server:next(1)
      if request then self:serve(request) end
    end
    server:stop()
  end,
}
