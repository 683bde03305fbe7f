--- Examples of the methods of a model that make, choose, merge and save adapters; see qlora.reference.examples.
return {
  ["Model:attach_lora"] = [[
model:remove_adapters()
model:attach_lora { { name = "model.layers.0.mlp.up_proj", rank = 4, alpha = 8 } }]],
  ["Model:attach_ia3"] = [[
model:remove_adapters()
model:attach_ia3 { { name = "model.layers.0.self_attn.k_proj" } }]],
  ["Model:attach_module"] = [[
model:remove_adapters()
model:attach_module({ "model.layers.0.mlp.up_proj" }, {
  parameters = function(m) return { gain = qlora.ones(m.out_features) } end,
  forward = function(_, base, p) return base * p.gain end,
  source = "return { … }",
})]],
  ["Model:load_module"] = [[
local gain = {
  parameters = function(m) return { gain = qlora.ones(m.out_features) } end,
  forward = function(_, base, p) return base * p.gain end,
  source = "return { … }",
}
model:remove_adapters()
model:attach_module({ "model.layers.0.mlp.up_proj" }, gain)
model:save_adapter "module"
model:remove_adapters()
assert(model:load_module("module", gain) == 1)]],
  ["Model:attach_vera"] = [[
model:remove_adapters()
model:attach_vera({ { name = "model.layers.0.self_attn.k_proj" } }, { rank = 16 })]],
  ["Model:train_tokens"] = [[
model:remove_adapters()
assert(model:train_tokens({ 5, 6, 7 }) > 0)]],
  ["Model:attach_eva"] = [[
model:remove_adapters()
model:attach_eva({ { name = "model.layers.0.self_attn.k_proj", rank = 2, alpha = 4 } }, data.samples, { tau = 0.9 })]],
  ["Model:enter_variant"] = [[
model:enter_variant(1)
assert(#model:adapters() == 0)
model:leave_variants()]],
  ["Model:drop_variant"] = [[
model:enter_variant(1)
model:enter_variant(0)
model:drop_variant(1)]],
  ["Model:leave_variants"] = "model:leave_variants()",
  ["Model:losses"] = [[
model:remove_adapters()
model:add_lora { select = { "q_proj" }, rank = 2, alpha = 4, quiet = true }
model:enter_variant(1)
model:add_lora { select = { "v_proj" }, rank = 4, alpha = 8, quiet = true }
local losses = model:losses { { variant = 0, batch = data:batch { 1 } }, { variant = 1, batch = data:batch { 2 } } }
losses:sum():backward()
model:leave_variants()]],
  ["Model:train_parts"] = 'assert(model:train_parts({ "model.norm" }) > 0)',
  ["Model:adapters"] = [[
for _, adapter in ipairs(model:adapters()) do print(adapter.name, adapter.in_use, adapter.parameters) end]],
  ["Model:use_adapters"] = [[
model:add_lora { select = { "q_proj" }, rank = 2, alpha = 4, name = "second" }
model:use_adapters { "default", "second" }]],
  ["Model:with_adapters"] = [[
local base = model:with_adapters({}, function() return model:logits { 5, 6, 7 } end)
assert(base:size(1) == 3)]],
  ["Model:combine_adapters"] = [[
model:add_lora { select = { "q_proj" }, rank = 2, alpha = 4, name = "second" }
model:combine_adapters("both", { default = 0.5, second = 0.5 })
model:save_adapter("both", { name = "both" })]],
  ["Model:remove_adapters"] = "assert(model:remove_adapters() > 0)",
  ["Model:save_adapter"] = [[
model:save_adapter "adapter"
model:save_adapter "adapter.gguf" -- for llama.cpp
model:save_adapter("adapter-mlx", { as = "mlx" })]],
  ["Model:note_training"] = [[
model:note_training { { name = "data", text = "facts.jsonl" }, { name = "steps", text = "20" } }
model:save_adapter "adapter" -- adapter/README.md says so]],
  ["Model:add_adapter"] = [[
model:save_adapter "adapter"
model:remove_adapters()
assert(model:add_adapter("adapter", { trainable = true }) > 0)]],
  ["Model:merge"] = [[
model:merge()
assert(#model:trainable() == 0)]],
  ["Model:merged_weights"] = [[
local merged = model:merged_weights "dequantized"
assert(merged.target == "dequantized" and merged.codes == 0)]],
  compare_batch = [[
local compared = qlora.native.compare_batch(data:batch { 1, 2 }, model, { "base", model:merged_weights "dequantized" })
assert(compared[1].kl == 0 and #compared[2].kls == 2) -- fresh adapters add nothing]],
  ["Model:plan_merge"] = "assert(model:plan_merge { lengths = { 16, 32 } } > 0)",
  ["Model:by_matrix"] = 'model:by_matrix(function() return model:logits "In the morning" end)',
  ["MergedWeights:run"] = [[
local merged = model:merged_weights "dequantized"
print(merged:run(function() return model:generate("In the morning", { max_new_tokens = 4 }) end))]],
  ["MergedWeights:save"] = 'model:merged_weights("dequantized"):save "merged"',
  ["MergedWeights:free"] = 'model:merged_weights("dequantized"):free()',
  ["Model:save_gguf"] = 'model:save_gguf("model.gguf", { type = "q8_0", merge = true })',
  ["Model:save"] = [[
model:merge()
model:save "merged"]],
}
