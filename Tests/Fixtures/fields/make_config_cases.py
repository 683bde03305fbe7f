"""What transformers makes of config.json files that differ in one thing, into config_cases.json: the frequencies of the
rotary embedding, the window of each layer and the end tokens, or that it refuses the file.

    python make_config_cases.py     # transformers 5.23.0
"""
import copy, json, pathlib, tempfile
import torch, transformers
from transformers import AutoConfig, AutoModelForCausalLM

transformers.logging.set_verbosity_error()
BASE = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
            vocab_size=64, max_position_embeddings=64, pad_token_id=None)
LINEAR = {"type": "linear", "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
HALF = ["full_attention"] * 2 + ["sliding_attention"] * 2
FULL = ["full_attention"] * 4
cases = []


def outcome(config):
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "config.json").write_text(json.dumps(config))
        try:
            read = AutoConfig.from_pretrained(folder)
            model = AutoModelForCausalLM.from_config(read, attn_implementation="eager").eval()
            ids = torch.arange(24)[None]
            with torch.no_grad():
                weights = model(ids, output_attentions=True).attentions
        except Exception as error:
            return {"error": type(error).__name__}
    # A query sees as many tokens as its window allows; without a window the last one sees all.
    seen = [int((layer[0, 0, -1] > 0).sum()) for layer in weights]
    end = read.eos_token_id
    return {"frequencies": model.model.rotary_emb.inv_freq.tolist(), "windows": [n if n < 24 else None for n in seen],
            "end": end if isinstance(end, list) else [] if end is None else [end]}


def case(family, changes):
    config = {**copy.deepcopy(BASE), "model_type": family, **changes}
    cases.append({"config": config, **outcome(config)})


for changes in [
    {}, {"rope_theta": 500.0}, {"rope_theta": None}, {"rope_theta": 500.0, "rope_parameters": {"rope_theta": 700.0}},
    {"rope_theta": 500.0, "rope_parameters": {"rope_type": "default"}}, {"rope_parameters": None},
    {"rope_parameters": {}}, {"rope_parameters": {"rope_theta": None}}, {"rope_parameters": {"rope_type": None}},
    {"rope_parameters": {"rope_type": "linear"}}, {"rope_parameters": {"rope_type": "linear", "factor": "4"}},
    {"rope_parameters": {"type": "linear", "factor": 4.0, "rope_theta": 700.0}},
    {"rope_parameters": {"type": "linear", "factor": 4.0, "rope_type": "default"}},
    {"rope_parameters": {"type": "default", "rope_type": "linear", "factor": 4.0}},
    {"rope_parameters": {"type": "default"}}, {"rope_scaling": {"type": "default"}}, {"rope_scaling": None},
    {"rope_scaling": "linear"}, {"rope_scaling": LINEAR}, {"rope_scaling": {**LINEAR, "rope_theta": 300.0}},
    {"rope_scaling": LINEAR, "rope_theta": 300.0},
    {"rope_scaling": LINEAR, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    {"rope_scaling": LINEAR, "rope_parameters": {"rope_type": "default", "rope_theta": 700.0}},
    {"rope_scaling": LINEAR, "rope_theta": 500.0, "rope_parameters": {"rope_type": "default", "rope_theta": 700.0}},
    {"rope_scaling": {}, "rope_parameters": {**LINEAR, "rope_theta": 700.0}},
    {"rope_scaling": {"type": "default"}, "rope_parameters": {**LINEAR, "rope_theta": 10000.0}},
    {"rope_scaling": {"rope_type": "linear", "factor": 0.5}}, {"rope_scaling": LLAMA3},
    {"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 16}},
    {"rope_scaling": {**LLAMA3, "original_max_position_embeddings": None}},
    {"rope_parameters": {**LLAMA3, "original_max_position_embeddings": 16, "rope_theta": 700.0}},
    {"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 16}, "original_max_position_embeddings": 8},
    {"rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}}, {"rope_scaling": {"type": "su", "factor": 2.0}},
    {"rope_scaling": {**LINEAR, "rope_type": "llama3"}}, {"eos_token_id": [3, 5]}, {"eos_token_id": None},
    {"head_dim": 16}, {"head_dim": None}, {"head_dim": 0}, {"hidden_act": "swish"}, {"hidden_act": None},
    {"tie_word_embeddings": None}, {"attention_bias": None}, {"attention_bias": 1}, {"max_position_embeddings": None},
    {"rms_norm_eps": None}, {"num_key_value_heads": None}, {"num_key_value_heads": 0}, {"layer_types": None},
    {"layer_types": FULL}, {"text_config": {"hidden_size": 8}}, {"per_layer_config": {"0": {"hidden_act": "gelu"}}},
    {"hidden_size": 30}, {"vocab_size": 0},
]:
    case("llama", changes)
for changes in [
    {}, {"sliding_window": None}, {"sliding_window": 4}, {"sliding_window": 4, "layer_types": HALF},
    {"sliding_window": 4, "layer_types": FULL}, {"sliding_window": 4, "layer_types": None}, {"layer_types": HALF},
    {"sliding_window": None, "layer_types": HALF}, {"sliding_window": 4, "layer_types": HALF[:2]},
]:
    case("mistral", {"head_dim": 8, **changes})
for family in ["qwen2", "qwen3"]:
    for changes in [
        {}, {"sliding_window": 4}, {"sliding_window": 4, "use_sliding_window": True},
        {"sliding_window": 4, "use_sliding_window": True, "max_window_layers": 1},
        {"sliding_window": None, "use_sliding_window": True, "max_window_layers": 1},
        {"sliding_window": 4, "use_sliding_window": True, "layer_types": HALF},
        {"sliding_window": 4, "use_sliding_window": True, "layer_types": ["attention"] * 2 + HALF[2:]},
        {"sliding_window": 4, "layer_types": HALF}, {"sliding_window": None, "layer_types": HALF},
        {"layer_types": FULL, "rope_parameters": {"full_attention": {**LINEAR, "rope_theta": 700.0}}},
        {"use_sliding_window": None}, {"max_window_layers": None},
    ]:
        case(family, changes)
for changes in [
    {}, {"sliding_window": 4, "use_sliding_window": True},
    {"sliding_window": 4, "use_sliding_window": True, "layer_types": HALF},
    {"use_sliding_window": True}, {"no_rope_layers": None}, {"rope_theta": 500.0}, {"rope_parameters": {"rope_theta": 700.0}},
    {"rope_scaling": LINEAR},
]:
    case("smollm3", {"bos_token_id": None, "eos_token_id": 2, **changes})
for changes in [{}, {"rope_scaling": LINEAR}, {"attention_multiplier": None}]:
    case("granite", changes)
for changes in [{}, {"rope_scaling": LINEAR}, {"rms_norm_eps": None}]:
    case("olmo2", {"eos_token_id": 2, **changes})

result = {"versions": {"transformers": transformers.__version__, "torch": torch.__version__}, "cases": cases}
lines = ",\n".join("  " + json.dumps(c) for c in cases)
text = json.dumps({"versions": result["versions"]})[:-1] + ', "cases": [\n' + lines + "\n]}\n"
pathlib.Path(__file__).with_name("config_cases.json").write_text(text)
