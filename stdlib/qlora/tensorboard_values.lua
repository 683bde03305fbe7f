--- What a run tells TensorBoard, as messages of its Summary: numbers of a step, samples of text, and the settings of
--- the run for its table of hyperparameters.
local json = require "qlora.json"
local strict = require "qlora.strict"
local wire = require "qlora.protobuf"
local message = wire.message

local values = {}

-- Tags as the trainers of Hugging Face write them, so that runs of both lie in one chart.
local tags_of = { lr = "train/learning_rate", norm = "train/grad_norm", eval_loss = "eval/loss",
  perplexity = "eval/perplexity" }

--- The tag of a number of the journal.
function values.tag(key) return tags_of[key] or "train/" .. key end

--- The numbers of a journal's line but its step; "" where there are none.
function values.numbers(entry)
  local parts = {}
  for _, key in ipairs(strict.sorted_keys(entry)) do
    if key ~= "step" and type(entry[key]) == "number" then
      parts[#parts + 1] = message(1, message(1, values.tag(key)) .. wire.float(2, entry[key] + 0.0))
    end
  end
  return table.concat(parts)
end

--- The metadata of a value that a plugin of TensorBoard shows.
local function plugin(name, content) return message(9, message(1, message(1, name) .. message(2, content))) end

--- TensorBoard reads Markdown; what is indented stays as it is.
local function verbatim(text) return "    " .. text:gsub("\n", "\n    ") end

--- Prompts and what the model made of them, each under a tag of its own: { { prompt =, text = }, … }. Without both of
--- them there is nothing to show.
function values.samples(list)
  local parts = {}
  for i, sample in ipairs(list) do
    if not (sample.prompt and sample.text) then break end
    local text = ("prompt:\n\n%s\n\nanswer:\n\n%s\n"):format(verbatim(sample.prompt), verbatim(sample.text))
    -- TensorProto { dtype = DT_STRING, tensor_shape of one element, string_val }
    local tensor = wire.integer(1, 7) .. message(2, message(2, wire.integer(1, 1))) .. message(8, text)
    parts[i] = message(1, message(1, ("samples/%d"):format(i)) .. message(8, tensor) .. plugin("text", ""))
  end
  return table.concat(parts)
end

-- Hyperparameters ----------------------------------------------------------------------------------------------------

-- TensorProto { dtype = DT_FLOAT, tensor_shape of no element }: these values have all they say in their metadata.
local nothing = message(8, wire.integer(1, 1) .. message(2, message(2, "")))

local function hparams(tag, number, content)
  return message(1, message(1, "_hparams_/" .. tag) .. nothing .. plugin("hparams", message(number, content)))
end

--- A setting as google.protobuf.Value, and its DataType (1 string, 2 bool, 3 float64).
local function setting(value)
  if type(value) == "number" and strict.is_finite(value) then return wire.double(2, value + 0.0), 3 end
  if type(value) == "boolean" then return wire.integer(4, value and 1 or 0), 2 end
  return message(3, type(value) == "table" and json.encode(value) or tostring(value)), 1
end

--- The start of a run with its settings by name, which TensorBoard's table of hyperparameters compares.
--- @param sources table[] settings by name; later ones win
--- @param name string of the run, which is its row
--- @param time number seconds since 1970
function values.start(sources, name, time)
  local settings, infos, pairs_of = {}, {}, {}
  for _, source in ipairs(sources) do
    for key, value in pairs(source) do settings[key] = value end
  end
  for i, key in ipairs(strict.sorted_keys(settings)) do
    local value, kind = setting(settings[key])
    infos[i] = message(4, message(1, key) .. wire.integer(4, kind)) -- HParamInfo
    pairs_of[i] = message(1, message(1, key) .. message(2, value))
  end
  local metrics = {}
  for i, tag in ipairs { "train/loss", "eval/loss" } do
    metrics[i] = message(5, message(1, message(2, tag))) -- MetricInfo { MetricName { tag } }
  end
  return hparams("experiment", 2, wire.double(3, time) .. table.concat(infos) .. table.concat(metrics))
    .. hparams("session_start_info", 3, table.concat(pairs_of) .. message(4, name) .. wire.double(5, time))
end

--- The end of a run, which it reached.
function values.finish(time)
  return hparams("session_end_info", 4, wire.integer(1, 1) .. wire.double(2, time))
end

return values
