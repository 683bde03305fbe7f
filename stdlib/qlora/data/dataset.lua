--- Data sets: token samples with a mask of what is trained, and where each came from.
local native = require "qlora.native"
local checks = require "qlora.checks"
local format = require "qlora.format"
local made = require "qlora.made"
local batching = require "qlora.data.batching"
local random = require "qlora.data.random"
local reading = require "qlora.data.reading"
local strict = require "qlora.strict"
local suggest = require "qlora.suggest"

local Dataset = strict.class("Dataset", { __name = "dataset" }, {
  doc = "Token samples with a mask of what is trained: `#data` counts them, `data[i]` is { ids =, labels = }, printing "
    .. "it shows the counts.", receiver = "data",
  fields = { { "tokenizer", "Tokenizer", "the tokenizer they were made with" },
    { "chat_template", "string|nil", "Jinja source of the template of chats, for model:note_training" } },
})

function Dataset:__len() return #self.samples end

--- A sample as text under a line about it: trained tokens in green and the others dimmed, without colour in [[…]].
local function sample_text(self, number, colour)
  local ids, labels = self.samples:row(number)
  local parts, from = {}, 1
  while from <= #ids do
    local to, on = from, labels[from] ~= native.untrained
    while to < #ids and (labels[to + 1] ~= native.untrained) == on do to = to + 1 end
    local part, earlier = table.move(ids, from, to, 1, {}), table.move(ids, 1, from - 1, 1, {})
    local text = self.tokenizer:decode(part, { after = earlier })
    if colour then parts[#parts + 1] = (on and "\27[32m" or "\27[2m") .. text .. "\27[0m"
    else parts[#parts + 1] = on and "[[" .. text .. "]]" or text end
    from = to + 1
  end
  local text = table.concat(parts)
  return ("sample %d: %d tokens, %d trained\n%s"):format(number, #ids, self.samples:trained(number), text)
end

--- Sample `i` as { ids =, labels = }, nil after the last; other keys are methods.
function Dataset:__index(key)
  if type(key) == "number" then
    if key < 1 then strict.fail("data[%d]: samples are counted from 1, as lists in Lua; there are %d", key, #self) end
    if key > #self then return nil end
    local ids, labels = self.samples:row(key)
    return setmetatable({ ids = ids, labels = labels },
      { __name = "sample", __tostring = function() return sample_text(self, key, native.isatty(1)) end })
  end
  if key == "chat_template" then return nil end
  if Dataset[key] == nil then
    strict.fail("data has no '%s'%s", tostring(key), suggest.phrase(tostring(key), strict.sorted_keys(Dataset)))
  end
  return Dataset[key]
end

local dataset = {}

--- Names a sample and the record that it was made of.
local function place(source, i)
  local number = source and source.numbers[i]
  if not number then return ("sample %d"):format(i) end
  local line = source.origin and source.origin.lines and source.origin.lines[number]
  return ("sample %d (record %d%s)"):format(i, number, line and (", %s:%d"):format(source.origin.path, line) or "")
end

--- Counts of a data set that is all there.
dataset.nothing_left_out = { incomplete = 0, untrained = 0, invalid = 0, too_long = 0, records = 0 }

--- `source` = { numbers = of the record of each sample, origin = where records were read }; nil for text, whose windows
--- have no record.
function dataset.new(list, tokenizer, counts, source)
  -- A batch keeps this function, and must not keep the data set with it.
  local function explain(number, tokens, limit)
    return checks.too_long(place(source, number), tokens, limit)
  end
  return setmetatable({ samples = list, tokenizer = tokenizer, counts = counts, source = source, explain = explain },
    Dataset)
end

--- The number of tokens of a sample.
--- @param i integer number of the sample, from 1
--- @return integer its tokens
--- @throws when there is no such sample
--- @example assert(data:length(1) == #data[1].ids)
function Dataset:length(i) return self.samples:length(i) end

--- Names a sample and the record that it was made of.
--- @param i integer number of the sample, from 1
--- @return string such as "sample 7 (record 9, train.jsonl:12)"
--- @example assert(data:where(2):find "facts.jsonl:2")
function Dataset:where(i) return place(rawget(self, "source"), i) end

Dataset.steps = batching.steps

--- Samples as one batch, for model:loss and model:nll.
--- @param numbers integer[] numbers of the samples, from 1
--- @return Batch the batch
--- @throws when there is no such sample
--- @example assert(data:batch({ 1, 2 }).rows == 2)
function Dataset:batch(numbers) return self.samples:batch(numbers, self.explain) end

--- Counts of the data set.
--- @return table samples, tokens, trained, longest, mean, truncated; records, and how many were left out: incomplete
---   (without an answer), untrained (without a trained token), too_long, invalid (wrong)
--- @example assert(data:stats().samples == #data)
function Dataset:stats()
  local s = self.samples:stats()
  s.samples = #self
  s.mean = s.samples > 0 and s.tokens / s.samples or 0
  for key in pairs(dataset.nothing_left_out) do s[key] = self.counts[key] end
  return s
end

function Dataset:__tostring()
  local s = self:stats()
  local n = format.thousands
  local text = ("%s samples, %s tokens (%s trained), longest %s, mean %s"):format(
    n(s.samples), n(s.tokens), n(s.trained), n(s.longest), n(s.mean))
  if s.truncated > 0 then text = text .. ("; %d truncated"):format(s.truncated) end
  local left_out = reading.left_out(self.counts)
  if left_out then text = text .. "; " .. left_out end
  return text
end

--- Two data sets of these samples, drawn at random.
--- @param at number fraction (below 1) or number of samples of the second one
--- @param seed? integer seed of the draw; 0 when left out
--- @return Dataset, Dataset the first and the second part
--- @throws when one of them would be empty
--- @example
--- local train, held_out = data:split(0.2)
--- assert(#train + #held_out == #data)
function Dataset:split(at, seed)
  if native.options.plan then return self, self end
  if not (strict.is_finite(at) and at > 0 and at < #self and (at < 1 or math.tointeger(at))) then
    strict.fail("data:split: expected a fraction below 1 or a whole number of samples below %d, got %s", #self,
      strict.show(at))
  end
  if seed ~= nil and math.type(seed) ~= "integer" then
    strict.fail("data:split: the second argument is a seed, a whole number; got %s", strict.show(seed))
  end
  if #self < 2 then
    strict.fail "data:split: there is 1 sample, and each part needs one; give more records, or hold none out"
  end
  local count = at < 1 and math.min(#self - 1, math.max(1, math.floor(#self * at + 0.5))) or math.tointeger(at)
  local first, second = {}, {}
  for position, index in ipairs(random.permutation(#self, seed or 0, 0x5eed)) do
    local side = position <= #self - count and first or second
    side[#side + 1] = index
  end
  local source = rawget(self, "source")
  local function part(chosen, counts)
    local numbers = {}
    for i, index in ipairs(chosen) do numbers[i] = source and source.numbers[index] end
    local set = dataset.new(self.samples:select(chosen), self.tokenizer, counts,
      source and { numbers = numbers, origin = source.origin })
    rawset(set, "chat_template", self.chat_template)
    return made.note(set, made.of(self))
  end
  return part(first, self.counts), part(second, dataset.nothing_left_out)
end

--- Prints a sample with trained tokens in green and the others dimmed; without a terminal, trained parts in [[…]].
--- @param i? integer number of the sample; 1 when left out
--- @throws when there is no such sample
--- @example data:preview(1)
function Dataset:preview(i)
  if native.options.plan then return end
  local number = i or 1
  if math.type(number) ~= "integer" or number < 1 or number > #self then
    strict.fail("data:preview: no sample %s; there are %d", tostring(i), #self)
  end
  local left_out = number == 1 and reading.left_out(self.counts)
  if left_out then print(left_out) end
  print(sample_text(self, number, native.isatty(1)))
end

return dataset
