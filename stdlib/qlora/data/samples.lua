--- Spans -> one training sample: token ids and which of them are trained. What is kept is native (`Samples`).
local samples = {}

--- The BOS id the tokenizer itself puts in front of a text, or nil.
function samples.leading_bos(tokenizer)
  local first = tokenizer:encode("", { special = true })[1]
  return first ~= nil and first == tokenizer.bos and first or nil
end

local function cut(ids, limit)
  if not limit or #ids <= limit then return ids, 0 end
  return table.move(ids, 1, limit, 1, {}), #ids - limit
end

--- Tokenizes `spans`. `o`: tokenizer, bos (id or nil), eos (id or nil: written after a sample whose end is trained),
--- max_length, source_max_length, target_max_length, train_on_source. Returns { ids =, trained = { {first, last}, … },
--- cut = tokens dropped }.
function samples.from_spans(spans, o)
  local ids, trained, dropped = {}, {}, 0
  for i, span in ipairs(spans) do
    local continues = i > 1 and not span.separate
    local piece = o.tokenizer:encode(span.text, { special = false, continues = continues })
    if i == 1 and o.bos and piece[1] ~= o.bos then table.insert(piece, 1, o.bos) end
    if i == #spans and o.eos and span.train and piece[#piece] ~= o.eos then piece[#piece + 1] = o.eos end
    local limit
    if span.source then limit = o.source_max_length elseif span.train then limit = o.target_max_length end
    local lost
    piece, lost = cut(piece, limit)
    dropped = dropped + lost
    if (span.train or o.train_on_source) and #piece > 0 then trained[#trained + 1] = { #ids + 1, #ids + #piece } end
    table.move(piece, 1, #piece, #ids + 1, ids)
  end
  local lost
  ids, lost = cut(ids, o.max_length)
  return { ids = ids, trained = trained, cut = dropped + lost }
end

return samples
