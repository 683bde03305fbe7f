"""What PEFT makes of adapter_config.json files on a small Llama, into adapter_cases.json: rank and scaling of every
module that it adapts, or that it refuses the file.

    python make_adapter_cases.py    # peft 0.21.2, transformers 5.23.0
"""
import json, pathlib
import peft, transformers
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import LlamaConfig, LlamaForCausalLM

NAME = LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
                   num_key_value_heads=2, vocab_size=64)
QV = ["q_proj", "v_proj"]
cases = []


def outcome(config):
    try:
        model = get_peft_model(LlamaForCausalLM(NAME), LoraConfig(**json.loads(json.dumps(config))))
    except Exception as error:
        return {"error": type(error).__name__}
    found = {n.removeprefix("base_model.model."): m for n, m in model.named_modules() if isinstance(m, LoraLayer)}
    return {"modules": {n: [m.r["default"], m.scaling["default"]] for n, m in found.items()}}


for changes in [
    {"target_modules": QV}, {"target_modules": ["model.layers.1.mlp.up_proj"]}, {"target_modules": ["mlp.up_proj"]},
    {"target_modules": "all-linear"}, {"target_modules": "ALL-LINEAR"}, {"target_modules": ["lm_head", "q_proj"]},
    {"target_modules": r".*layers\.[01]\.self_attn\.(q|k)_proj"}, {"target_modules": r".*_proj"},
    {"target_modules": "q_proj"}, {"target_modules": r"model\.layers\.\d\.mlp\..*"}, {"target_modules": "(q_proj"},
    {"target_modules": ["_proj"]}, {"target_modules": QV, "exclude_modules": ["layers.0.self_attn.q_proj"]},
    {"target_modules": QV, "exclude_modules": r".*layers\.0\..*"}, {"target_modules": QV, "exclude_modules": ["v_proj"]},
    {"target_modules": QV, "layers_to_transform": [0, 2]}, {"target_modules": QV, "layers_to_transform": 1},
    {"target_modules": QV, "layers_to_transform": []},
    {"target_modules": QV, "layers_to_transform": [1], "layers_pattern": "layers"},
    {"target_modules": QV, "layers_to_transform": [1], "layers_pattern": ["h", "layers"]},
    {"target_modules": QV, "layers_to_transform": [1], "layers_pattern": "blocks"},
    {"target_modules": QV, "layers_pattern": "layers"}, {"target_modules": "all-linear", "layers_to_transform": [1]},
    {"target_modules": ["model.layers.0.self_attn.q_proj", "v_proj"], "layers_to_transform": [1]},
    {"target_modules": QV, "rank_pattern": {"q_proj": 2}}, {"target_modules": QV, "rank_pattern": {"q_pro": 2}},
    {"target_modules": QV, "rank_pattern": {r"layers\.1\..*": 3, "q_proj": 2}},
    {"target_modules": QV, "rank_pattern": {"q_proj": 2, r"layers\.1\..*": 3}},
    {"target_modules": QV, "rank_pattern": {"^model.layers.0.self_attn.v_proj": 5}},
    {"target_modules": QV, "rank_pattern": {".*q_proj": 2}, "alpha_pattern": {"layers.[12].self_attn.q_proj": 6}},
    {"target_modules": QV, "alpha_pattern": {"v_proj|q_proj": 12}}, {"target_modules": QV, "alpha_pattern": {"(": 12}},
    {"target_modules": QV, "use_rslora": True, "rank_pattern": {"q_proj": 9}},
    {"target_modules": QV, "r": 0}, {"target_modules": QV, "init_lora_weights": "gaussian"},
    {"target_modules": QV, "init_lora_weights": "orthogonal"}, {"target_modules": QV, "init_lora_weights": False},
]:
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, **changes}
    cases.append({"config": config, **outcome(config)})
text = ",\n".join("  " + json.dumps(c) for c in cases)
versions = json.dumps({"peft": peft.__version__, "transformers": transformers.__version__})
pathlib.Path(__file__).with_name("adapter_cases.json").write_text(
    '{"versions": ' + versions + ', "layers": 3, "cases": [\n' + text + "\n]}\n")
