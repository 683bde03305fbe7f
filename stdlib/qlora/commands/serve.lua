--- answers clients of the OpenAI API: models, chat and completions, also as a stream
---
--- MODEL is what chat takes. It answers under its own name, each adapter under the adapter's. Up to --parallel answers
--- grow together: those of one model or adapter in one pass over its weights. Others wait in the order of their coming;
--- a client that goes away frees its place at once. It listens on this machine only, unless --host says otherwise;
--- Ctrl-C ends it.
local native = require "qlora.native"
local format = require "qlora.format"
local json = require "qlora.json"
local openai = require "qlora.openai"
local places = require "qlora.serving_places"
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

--- The ids of a prompt to an adapter, how many tokens may follow, and its text.
function Service:prompt(body, is_chat, adapter)
  local prompt, model = body.prompt, self.talk.model
  if is_chat then
    if not self.talk:template(adapter) and #body.messages ~= 1 then
      openai.fail(400, "messages", "there is no chat template, so the model can go on from a single message alone; "
        .. "send the whole text to /v1/completions, or start serve with --template")
    end
    local ok, found = pcall(self.talk.prompt, self.talk, body.messages, adapter)
    if not ok then openai.fail(400, "messages", "%s", openai.said(found)) end
    prompt = found
  elseif type(prompt) == "table" and type(prompt[1]) == "string" then
    prompt = prompt[1]
  end
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
  return ids, room, type(prompt) == "string" and prompt or nil
end

--- A request for text, checked, as `places` takes it.
function Service:job(request, is_chat)
  local body = openai.read(request.body, is_chat and openai.chat_fields or openai.completion_fields,
    is_chat and "messages" or "prompt")
  local job = { request = request, adapter = self:adapter(body.model) or nil }
  local text
  job.ids, job.room, text = self:prompt(body, is_chat, job.adapter)
  job.sampling, job.echo = openai.sampling(body, is_chat and job.room or 16, job.room)
  if is_chat then job.sampling.stop = self.talk:stops(job.adapter, job.sampling.stop) end
  if job.echo then job.echo = text or self.talk.model.tokenizer:decode(job.ids) end
  local answer = openai.answer(is_chat, body.model or self.talk.name)
  -- Where the usage was asked for, every piece but the last says that it has none.
  local usage_of_piece = (body.stream_options or {}).include_usage and "null" or nil
  local function piece(more, reason, role) return answer.piece(more, reason, role, usage_of_piece) end
  function job.begin()
    if not body.stream then return end
    job.streams = true
    request:begin(200, "text/event-stream; charset=utf-8")
    if is_chat then request:write(piece("", nil, "assistant")) end
    if job.echo then request:write(piece(job.echo)) end
  end
  function job.sampling.on_text(more)
    if request.gone then return false end
    if body.stream then request:write(piece(more)) end
  end
  function job.finish(sequence)
    -- "ended" is left: the client is gone, and nobody reads it.
    local reason = sequence.reason == "length" and "length" or "stop"
    local usage = openai.usage(sequence.read, sequence.written)
    if not body.stream then
      return request:respond(200, "application/json", answer.whole((job.echo or "") .. sequence.text, reason, usage))
    end
    request:write(piece(nil, reason))
    if usage_of_piece then request:write(answer.usage(usage)) end
    request:write "data: [DONE]\n\n"
    request:finish()
  end
  --- Answers with an error, and gives its status.
  function job.fail(raised)
    local status, said = openai.failure(raised)
    if job.streams then -- the status has been sent
      request:write(("data: %s\n\n"):format(said))
    else
      request:respond(status, "application/json", said)
    end
    request:finish()
    return status
  end
  return job
end

--- Answers a request, or gives the job that will.
function Service:answer(request)
  if self.key and request:header "Authorization" ~= "Bearer " .. self.key then
    openai.fail(401, nil, "the key is missing or wrong; send Authorization: Bearer KEY")
  end
  if request.too_long then openai.fail(413, nil, "the body is longer than %s", format.bytes(self.server.body_limit)) end
  local path = request.path:gsub("(.)/$", "%1")
  local wanted = (path == "/v1/chat/completions" or path == "/v1/completions") and "POST"
    or (path == "/v1/models" or path:find "^/v1/models/" or path == "/health") and "GET"
  if not wanted then openai.fail(404, nil, "there is nothing at %s", path) end
  local method = request.method == "HEAD" and "GET" or request.method -- the server sends no body to HEAD
  if method ~= wanted then openai.fail(405, nil, "%s takes %s, not %s", path, wanted, request.method) end
  if wanted == "POST" then
    if self.places:is_full() then openai.fail(503, nil, "%d requests wait; try again later", #self.places.waiting) end
    return self:job(request, path == "/v1/chat/completions")
  end
  local found
  if path == "/health" then
    found = { status = "ok", waiting = #self.places.waiting, answering = #self.places.open }
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

--- A line of the log.
function Service:log(request, began, status, note)
  if native.options.quiet then return end
  io.stderr:write(("%s %s %s %d %.2f s%s\n"):format(os.date "%H:%M:%S", request.method, request.path, status,
    native.clock() - began, note and ": " .. note or ""))
end

--- Answers a newcomer at once, or has it wait for a place.
function Service:take(request)
  local began = native.clock()
  local ok, job = pcall(self.answer, self, request)
  if ok and job then
    job.began = began
    return self.places:add(job)
  end
  if not ok then
    if type(job) == "table" and job.exit_code then error(job, 0) end
    local status, body = openai.failure(job)
    request:respond(status, "application/json", body)
    request:finish()
    return self:log(request, began, status, tostring(job))
  end
  self:log(request, began, 200)
end

return {
  usage = "MODEL [ADAPTER …] [--port N] [--host ADDRESS]",
  flags = talk.with_flags {
    { "--host", "ADDRESS", "numeric IPv4 address to listen at; 0.0.0.0 is every one of this machine",
      default = "127.0.0.1" },
    { "--port", "N", "port number; 0 takes one that is free", kind = "count", at_least = 0, at_most = 65535,
      default = 8080 },
    { "--parallel", "N", "most answers that grow together", kind = "count", at_least = 1, at_most = 512, default = 8 },
    { "--api-key", "KEY", "clients must send this key" },
    { "--role", "NAME", "a role that messages may have besides those of the model's template (repeatable)",
      list = true },
  },
  run = function(o, arguments)
    local path, adapters = talk.given("serve", o, arguments)
    local talker = talk.open(path, { quant = o.quant, adapters = adapters, roles = o.role,
      template = o.template })
    local server = native.http_server { host = o.host, port = o.port }
    local self = setmetatable({ talk = talker, server = server, started = os.time(), key = o.api_key }, Service)
    self.places = places.new(talker, o.parallel, server.waiting_limit, function(job, status, note)
      self:log(job.request, job.began, status, note)
    end)
    print(("%s answers at http://%s:%d/v1"):format(table.concat(self:names(), ", "), o.host, server.port))
    io.flush()
    native.interrupted() -- from now on Ctrl-C asks here
    while not native.interrupted() do
      local request = server:next(self.places:is_idle() and 1 or 0)
      while request do
        self:take(request)
        request = server:next(0)
      end
      self.places:step()
    end
    self.places:finish(openai.wrong(503, nil, "the server is ending, and the answer is not whole"))
    server:stop()
  end,
}
