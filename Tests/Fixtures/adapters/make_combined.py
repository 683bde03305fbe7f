"""Two LoRA adapters of models/tiny, what PEFT's add_weighted_adapter makes of them, and logits with both in use.

    python3 Tests/Fixtures/adapters/make_combined.py

Versions: torch 2.13.0, transformers 5.23.0, peft 0.21.2. Writes first/, second/ and combined.safetensors beside this
file: `METHOD.KEY` are tensors of the combined adapters, `logits.NAME` those of the ids 0, 37, 74, ... with an adapter.
"""
import pathlib, shutil, torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

here = pathlib.Path(__file__).parent
torch.manual_seed(11)
base = AutoModelForCausalLM.from_pretrained(here.parents[2] / "models/tiny", dtype=torch.float32)
ids = torch.tensor([[37 * i % 1280 for i in range(16)]])


def config(layers, alpha):
    names = [f"model.layers.{layer}.self_attn.k_proj" for layer in layers]
    return LoraConfig(r=2, lora_alpha=alpha, target_modules=names, lora_dropout=0.0)


base.config.name_or_path = base.name_or_path = "models/tiny"
model = get_peft_model(base, config([1, 3], 3), adapter_name="first")
model.add_adapter("second", config([1, 2], 5))
for name, parameter in model.named_parameters():
    if "lora_" in name:
        torch.nn.init.normal_(parameter, std=0.2)
tensors = {}
weights = [0.75, -0.4]
combinations = {
    "cat": {}, "linear": {}, "ties": {"density": 0.5}, "ties_frequency":
    {"density": 0.5, "majority_sign_method": "frequency"}, "magnitude_prune": {"density": 0.3}, "svd": {},
    "svd_3": {"svd_rank": 3}, "ties_svd": {"density": 0.5}, "magnitude_prune_svd": {"density": 0.3}}
for name, options in combinations.items():
    kind = name.removesuffix("_frequency").removesuffix("_3")
    model.base_model.add_weighted_adapter(["first", "second"], weights, name, combination_type=kind, **options)
    for key, value in get_peft_model_state_dict(model, adapter_name=name).items():
        tensors[f"{name}.{key}"] = value.clone().contiguous()
with torch.no_grad():
    for name in ["first", "second", "both", "cat", "svd"]:
        model.base_model.set_adapter(["first", "second"] if name == "both" else name)
        tensors[f"logits.{name}"] = model(ids).logits[0, :, :64].clone().contiguous()
save_file(tensors, here / "combined.safetensors")
for name in ["first", "second"]:
    shutil.rmtree(here / name, ignore_errors=True)
    model.save_pretrained(here, selected_adapters=[name])
    (here / name / "README.md").unlink(missing_ok=True)
(here / "README.md").unlink(missing_ok=True)
