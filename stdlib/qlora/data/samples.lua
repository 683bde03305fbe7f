--- Spans -> one training sample: token ids and which of them are trained. What is kept is native (`Samples`).
local strict = require "qlora.strict"

local samples = {}

--- The BOS id the tokenizer itself puts in front of a text, or nil.
function samples.leading_bos(tokenizer)
  local first = tokenizer:encode("", { special = true })[1]
  return first ~= nil and first == tokenizer.bos and first or nil
end

--- The BOS and EOS ids that samples get, nil for none, and whether an EOS is missing. `ends`: the template ends each
--- turn itself. `is_own`: it is the tokenizer's own, which is the whole text, as for apply_chat.
function samples.borders(o, ends, is_own)
  for _, key in ipairs { "bos", "eos" } do
    if o[key] and not o.tokenizer[key] then
      strict.fail("data.load: %s = true, but the tokenizer has no %s token", key, key:upper())
    end
  end
  local bos, eos = samples.leading_bos(o.tokenizer), not ends
  if ends and is_own then bos = nil end
  if o.bos ~= nil then bos = o.bos and o.tokenizer.bos or nil end
  if o.eos ~= nil then eos = o.eos end
  return bos, eos and o.tokenizer.eos or nil, eos and not o.tokenizer.eos
end

local function cut(ids, limit)
  if not limit or #ids <= limit then return ids, 0 end
  return table.move(ids, 1, limit, 1, {}), #ids - limit
end

--- The spans from `first` on that make one text, with the ids of the whole: a span that is `separate` begins another.
--- Returns the ids, the { first, last } id of each span, and the number of the next span.
local function encoded(spans, first, o)
  local parts, i = { spans[first].text }, first + 1
  while spans[i] and not spans[i].separate do parts[#parts + 1], i = spans[i].text, i + 1 end
  local literal = {}
  for k = 1, #parts do
    literal[k] = spans[first + k - 1].literal
    if literal[k] == nil then literal[k] = o.literal or false end -- the end of a turn in a history says false
  end
  local ids, ranges
  if #parts > 1 then ids, ranges = o.tokenizer:encode_parts(parts, { literal = literal })
  else -- without borders in it, a long text takes less memory
    ids = o.tokenizer:encode(parts[1], { special = false, literal = literal[1] })
    ranges = { { 1, #ids } }
  end
  if first == 1 and o.bos and ids[1] ~= o.bos then
    table.insert(ids, 1, o.bos)
    for k, range in ipairs(ranges) do ranges[k] = { range[1] + (k == 1 and 0 or 1), range[2] + 1 } end
  end
  local last = spans[i - 1]
  if i > #spans and o.eos and last.train and ids[#ids] ~= o.eos then
    ids[#ids + 1] = o.eos
    ranges[#ranges][2] = #ids
  end
  return ids, ranges, i
end

--- Tokenizes `spans`; those that go on after each other get the ids of their whole text. `o`: tokenizer, bos (id or
--- nil), eos (id or nil: written after a sample whose end is trained), literal (special tokens stay text), max_length,
--- source_max_length, target_max_length, train_on_source. Returns ids, `trained` as a list of { first, last }, and
--- `cut`, the number of tokens dropped. A token across the border of two spans is trained if one of them is.
function samples.from_spans(spans, o)
  local ids, trained, dropped, number = {}, {}, 0, 1
  while spans[number] do
    local first = number
    local whole, ranges
    whole, ranges, number = encoded(spans, first, o)
    local seen, shared = 0, 0 -- ids of `whole` that are dealt with; the last of them, where it was kept
    for k, range in ipairs(ranges) do
      local span, from, to = spans[first + k - 1], range[1], range[2]
      local limit
      if span.source then limit = o.source_max_length elseif span.train then limit = o.target_max_length end
      local kept = limit and math.min(to, from + limit - 1) or to
      local start = #ids + 1
      if from <= seen and shared > 0 then start = shared end
      for at = math.max(from, seen + 1), kept do ids[#ids + 1] = whole[at] end
      if to > kept then dropped = dropped + to - math.max(kept, seen) end
      if to > seen then seen, shared = to, kept == to and #ids or 0 end
      if (span.train or o.train_on_source) and #ids >= start then
        local last = trained[#trained]
        if last and last[2] >= start then last[2] = #ids else trained[#trained + 1] = { start, #ids } end
      end
    end
  end
  local lost
  ids, lost = cut(ids, o.max_length)
  return { ids = ids, trained = trained, cut = dropped + lost }
end

return samples
