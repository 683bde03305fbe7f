--- Merges adapters into weights, after measuring on held-out samples what that loses.
local checks = require "qlora.checks"
local distance = require "qlora.distance"
local format = require "qlora.format"
local native = require "qlora.native"
local plan = require "qlora.plan"
local strict = require "qlora.strict"

local targets = { "original", "dequantized", "requantized" }

-- A merge that keeps less of what the adapter changed than this has lost it.
local least_kept = 0.5

local schema = strict.declare("qlora.merge", {
  out = { "string", "the folder to write; without it the targets are measured alone", optional = true },
  target = { "string", "which one is written; auto takes the one that is recommended", default = "auto",
    choices = { "auto", table.unpack(targets) } },
  original = { "string", "where the 16-bit weights are; default the model's own path", optional = true },
  dtype = { "string", "how weights are stored that are not in 4 bits", choices = { "bf16", "f16", "f32" },
    default = "bf16" },
  limit = { "count", "most samples", default = 16 },
  quiet = { "boolean", "print no table", default = false },
})

local function show(row)
  if row.problem then return ("  %-12s %s"):format(row.target, row.problem) end
  local text = ("  %-12s KL %.6f nats, %.1f %% equal top tokens, perplexity %.4f, keeps %.1f %% of the adapter"):format(
    row.target, row.kl, 100 * row.agreement, row.perplexity, 100 * row.kept)
  if row.codes > 0 then
    text = text .. (", %d of %d codes changed (%.2f %%)"):format(row.changed_codes, row.codes,
      100 * row.changed_codes / row.codes)
  end
  return text
end

--- What the table says of one target. `away` is how far the base is.
local function row_of(target, merged, found, away)
  return {
    target = target, kl = found.kl, agreement = found.agreement, perplexity = found.perplexity[2],
    tokens = found.tokens, codes = merged.codes, changed_codes = merged.changed_codes,
    kept = away.kl > 0 and 1 - found.kl / away.kl or 1.0,
  }
end

--- Every target against the live adapter: the result without a recommendation, and the merged weights by target.
local function measure(model, data, o)
  local sides, merged, problems = { "base" }, {}, {}
  for _, target in ipairs(targets) do
    local options = { original = o.original, dtype = target ~= "requantized" and o.dtype or nil }
    local made, what = pcall(model.merged_weights, model, target, options)
    if made then
      sides[#sides + 1], merged[target] = what, what
    else
      problems[target] = tostring(what):gsub("^%S+:%d+: ", "") -- a row of the table is no line of the recipe
    end
  end
  local distances = distance.measure("merge", model, sides, data, o.limit)
  local away, result = table.remove(distances, 1), { rows = {} }
  result.base, result.base_kl, result.perplexity = away, away.kl, away.perplexity[1]
  for i, target in ipairs(targets) do
    result.rows[i] = problems[target] and { target = target, problem = problems[target] }
      or row_of(target, merged[target], table.remove(distances, 1), away)
  end
  return result, merged
end

--- The most bytes that the merge has in memory.
local function planned_peak(model, data, o)
  local _, lengths = distance.batches(data, o.limit)
  return model:plan_merge { lengths = lengths or { rawget(data, "max_length") }, original = o.original,
    dtype = o.dtype, saves = o.out ~= nil }
end

--- Measures, prints, and writes what is wanted.
local function merged_by_matrix(model, data, o)
  local planned = planned_peak(model, data, o)
  local result, merged = measure(model, data, o)
  result.planned_peak = planned
  local away, best = result.base, nil
  for _, row in ipairs(result.rows) do
    if row.kl and row.kept >= least_kept and (not best or row.kl < best.kl) then best = row end
  end
  result.recommended = best and best.target
  if not o.quiet then
    print(("merge: on %d tokens the adapter is KL %.6f from its base, perplexity %.4f"):format(away.tokens, away.kl,
      result.perplexity))
    for _, row in ipairs(result.rows) do print(show(row)) end
    print(("  planned peak %s, with one matrix in memory at a time"):format(format.bytes(planned)))
    if best then print(("  recommended: %s, the nearest to the live adapter"):format(best.target)) end
  end
  if not o.out then return result end
  -- A smoke run trains too little for a judgement.
  if native.options.smoke then result.recommended, best = "dequantized", result.rows[2] end
  local wanted = o.target == "auto" and result.recommended or o.target
  if not best and o.target == "auto" then
    strict.fail("merge: every target lost the adapter; keep it beside the base with model:save_adapter")
  end
  for _, row in ipairs(result.rows) do
    if row.target == wanted and row.problem then strict.fail("merge: %s cannot be made: %s", wanted, row.problem) end
    if row.target == wanted and row.kept < least_kept and not native.options.smoke then
      strict.fail("merge: %s lost the adapter: its KL from the live adapter is %.6f, that of the base %.6f%s; take "
        .. "target = %q, or keep the adapter beside the base with model:save_adapter", wanted, row.kl, away.kl,
        row.codes > 0 and (", and %d of %d codes changed"):format(row.changed_codes, row.codes) or "",
        best and best.target or "dequantized")
    end
  end
  merged[wanted]:save(o.out)
  result.written = wanted
  return result
end

--- Adds the adapters of a model into weights. Before it writes, it measures each target on held-out samples against the
--- model with its live adapters: mean KL per token, equal top tokens, perplexity, and for 4-bit weights how many codes
--- changed. `kept` is the share of the adapter's own KL from the base that the merge keeps. The model does not change.
--- One matrix at a time is merged, compared and written.
--- @param model Model a model with adapters
--- @param data Dataset held-out samples
--- @return table { rows = one for each target { target, kl, agreement, perplexity, kept, codes, changed_codes } or
---   { target, problem }, recommended = name or nil, written = name or nil, base_kl = KL(adapter || base), base =
---   what qlora.eval.compare gave for it, perplexity = of the live adapter, planned_peak = most bytes in memory }
--- @throws when the model has no adapters, the data set is empty, the target cannot be made, or it lost the adapter
--- @example
--- local result = qlora.merge(model, data, { out = "merged", target = "dequantized", limit = 1, quiet = true })
--- assert(result.written == "dequantized")
local function merge(model, data, options)
  checks.model("merge", model)
  checks.data("merge", data)
  local o = strict.options("merge", options, schema)
  local has = false
  for module in model:modules() do has = has or module.adapter ~= nil end
  if not has then strict.fail("merge: the model has no adapters; load it with adapter = DIRECTORY or train some") end
  if native.options.plan then
    local peak = planned_peak(model, data, o)
    native.exit(plan.fits(("Plan for a merge of %s\n  %-34s %12s"):format(model.name or "the model", "peak",
      format.bytes(peak)), peak) and 0 or 3)
  end
  return model:by_matrix(function() return merged_by_matrix(model, data, o) end)
end

return merge
