--- Requests and answers as clients of OpenAI's API write and read them: what a body may say, and the JSON of answers.
local is_list = require("qlora.data.fields").is_list
local json = require "qlora.json"
local null_item = require("qlora.jinja.values").None

local openai = {}

local Wrong = { __tostring = function(self) return self.message end }

--- An error as the API words one, which ends a request.
--- @param status integer the HTTP status
--- @param param string|nil the field that is wrong
function openai.wrong(status, param, format, ...)
  return setmetatable({ status = status, param = param, message = format:format(...) }, Wrong)
end

--- Raises one.
function openai.fail(...) error(openai.wrong(...), 0) end

--- What was raised as text, without the place in the server's own files.
function openai.said(raised)
  if getmetatable(raised) == Wrong then return raised.message end
  return (tostring(raised):gsub("^[^:]*:%d+: ", ""))
end

--- The status and the JSON body of what was raised; anything else than `openai.fail` is the server's own fault.
function openai.failure(raised)
  local wrong = getmetatable(raised) == Wrong
  local status = wrong and raised.status or 500
  local kind = status == 401 and "authentication_error" or status < 500 and "invalid_request_error" or "server_error"
  local code = status == 404 and (raised.param == "model" and "model_not_found" or "unknown_url") or nil
  return status, json.encode { error = { message = openai.said(raised), type = kind,
    param = wrong and raised.param or nil, code = code } }
end

local function is_number(least, most, whole)
  return function(value)
    return type(value) == "number" and value >= least and value <= most and (not whole or math.tointeger(value) ~= nil),
      ("a %snumber from %s to %s"):format(whole and "whole " or "", least, most)
  end
end

local function is_type(name, words)
  return function(value) return type(value) == name, words end
end

local function is_stop(value)
  local list = type(value) == "string" and { value } or value
  if not is_list(list) or #list > 4 then return false, "a text or up to four texts" end
  for _, text in ipairs(list) do
    if type(text) ~= "string" or text == "" then return false, "a text or up to four texts" end
  end
  return true
end

-- What a value has to be for a field to change nothing here.
local function only(...)
  local allowed = { ... }
  return function(value)
    for _, one in ipairs(allowed) do
      if value == one then return true end
    end
    return false, "left out: this server does not compute it"
  end
end

local function only_empty(value) return type(value) == "table" and next(value) == nil, "left out: not computed here" end

local function anything() return true end

local count = is_number(1, 1 << 20, true)
local shared = {
  model = is_type("string", "a text"), temperature = is_number(0, 100), top_p = is_number(0, 1),
  top_k = is_number(0, 1 << 20, true), max_tokens = count, stop = is_stop, stream = is_type("boolean", "true or false"),
  seed = is_number(-(1 << 53), 1 << 53, true), stream_options = function(value)
    if type(value) ~= "table" then return false, "an object" end
    for key, flag in pairs(value) do
      if type(flag) ~= "boolean" or key ~= "include_usage" and key ~= "include_obfuscation" then
        return false, "{ include_usage: true or false }"
      end
    end
    return true
  end,
  n = only(1), presence_penalty = only(0), frequency_penalty = only(0), logit_bias = only_empty,
  -- For the books of the API's own servers.
  user = anything, metadata = anything, store = anything, service_tier = anything, safety_identifier = anything,
  prompt_cache_key = anything,
}

local function with(more)
  local fields = {}
  for key, check in pairs(shared) do fields[key] = check end
  for key, check in pairs(more) do fields[key] = check end
  return fields
end

openai.chat_fields = with {
  messages = function(value) return type(value) == "table" and #value > 0, "a list of messages" end,
  max_completion_tokens = count, logprobs = only(false), top_logprobs = only(0), modalities = anything,
  response_format = function(value) return type(value) == "table" and value.type == "text", "{ type: text }" end,
  tools = only_empty, tool_choice = only("none", "auto"), parallel_tool_calls = anything,
}

openai.completion_fields = with {
  prompt = function(value)
    if type(value) == "string" then return true end
    if type(value) ~= "table" or #value == 0 then return false, "a text or a list of token ids" end
    if #value == 1 and type(value[1]) == "string" then return true end
    for _, id in ipairs(value) do
      if type(id) ~= "number" or not math.tointeger(id) then return false, "a text or a list of token ids" end
    end
    return true
  end,
  echo = is_type("boolean", "true or false"), best_of = only(1), logprobs = only(), suffix = only(""),
}

-- Tables of Lua, in which a null is no field and an item of its own: a list with one must not read as a shorter list.
local make = {
  dict = function() return {} end, put = rawset,
  list = function(items, length)
    for i = 1, length do
      if items[i] == nil then items[i] = null_item end
    end
    return items
  end,
}

--- The fields of a body, each checked; one that nobody reads is an error.
--- @param text string the body
--- @param fields table what is allowed
--- @param required string the field that must be there besides the model
function openai.read(text, fields, required)
  local ok, body = pcall(json.decode, text, make)
  if not ok or type(body) ~= "table" or body[1] ~= nil then
    openai.fail(400, nil, "the body is not a JSON object%s", ok and "" or ": " .. tostring(body))
  end
  local names = {}
  for name in pairs(body) do names[#names + 1] = tostring(name) end
  table.sort(names)
  for _, name in ipairs(names) do
    if not fields[name] then openai.fail(400, name, "unknown field '%s'", name) end
    local fits, expected = fields[name](body[name])
    if not fits then openai.fail(400, name, "'%s' must be %s", name, expected) end
  end
  local limit, older = body.max_completion_tokens, body.max_tokens
  if limit and older and limit ~= older then
    openai.fail(400, "max_tokens", "'max_tokens' is %s and 'max_completion_tokens' is %s; send one of them",
      older, limit)
  end
  if body[required] == nil then openai.fail(400, required, "'%s' is missing", required) end
  return body
end

--- Options of Generator:add for a body, and whether the answer begins with the prompt. `usual` is the most tokens where
--- the body does not say it, `room` where it does.
function openai.sampling(body, usual, room)
  local asked = body.max_completion_tokens or body.max_tokens or usual
  return { temperature = body.temperature or 1, top_p = body.top_p, top_k = body.top_k, seed = body.seed or
    math.random(1 << 50), stop = body.stop, max_new_tokens = math.min(asked, room) }, body.echo
end

--- `"[]"` for nothing is what json.encode writes of an empty table; a piece of a stream needs an object.
local function delta(text, role)
  if not text and not role then return "{}" end
  return json.encode { content = text, role = role }
end

local function null(value) return value and json.encode(value) or "null" end

--- The counts of an answer.
function openai.usage(read, written)
  return { prompt_tokens = read, completion_tokens = written, total_tokens = read + written }
end

--- 32 random letters. Those of math.random are the same in each program of a seed, so clients that keep answers by
--- their ids would take one for another.
local function random_letters()
  local file <close> = assert(io.open("/dev/urandom", "rb"))
  return (file:read(16):gsub(".", function(byte) return ("%02x"):format(byte:byte()) end))
end

--- A kind of answer: its JSON as a whole, and in pieces.
--- @param is_chat boolean of chat/completions, not of completions
--- @param model string the name that was asked for
function openai.answer(is_chat, model)
  local id = (is_chat and "chatcmpl-" or "cmpl-") .. random_letters()
  local created = os.time()
  local function envelope(object, choices, usage)
    return ('{"id":%q,"object":%q,"created":%d,"model":%s,"choices":%s%s}'):format(id, object, created,
      json.encode(model), choices, usage and ',"usage":' .. (usage == "null" and usage or json.encode(usage)) or "")
  end
  local choice = '[{"index":0,%s,"logprobs":null,"finish_reason":%s}]'
  local object = is_chat and "chat.completion" or "text_completion"
  local piece_object = is_chat and "chat.completion.chunk" or "text_completion"
  return {
    whole = function(text, reason, usage)
      local content = '"text":' .. json.encode(text)
      if is_chat then
        content = '"message":{"role":"assistant","content":' .. json.encode(text) .. ',"refusal":null}'
      end
      return envelope(object, choice:format(content, null(reason)), usage)
    end,
    piece = function(text, reason, role, usage)
      local content = is_chat and '"delta":' .. delta(text, role) or '"text":' .. json.encode(text or "")
      return "data: " .. envelope(piece_object,
        choice:format(content, null(reason)), usage) .. "\n\n"
    end,
    usage = function(usage) return "data: " .. envelope(piece_object, "[]", usage) .. "\n\n" end,
  }
end

--- The JSON of the models, or of one.
function openai.model(name, created)
  return { id = name, object = "model", created = created, owned_by = "qlora-run" }
end

return openai
