"""Three LoRA adapters of models/tiny of different ranks, alphas and scalings, and what PEFT's add_weighted_adapter makes
of two of them.

    python3 Tests/Fixtures/adapters/make_combined_ranks.py

Versions: torch 2.13.0, transformers 5.23.0, peft 0.21.2. Writes ranks/two, ranks/three and ranks/other, and
combined_ranks.safetensors beside this file: `METHOD.KEY` are tensors of the combined adapters. The draws of dare_ have no
peer, so those are made with density 1, which draws nothing. `refused` in the metadata: methods that PEFT refuses for
adapters of two ranks.
"""
import pathlib, shutil, torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

here = pathlib.Path(__file__).parent
torch.manual_seed(12)
base = AutoModelForCausalLM.from_pretrained(here.parents[2] / "models/tiny", dtype=torch.float32)


def config(layers, rank, alpha, rslora=False):
    names = [f"model.layers.{layer}.self_attn.k_proj" for layer in layers]
    return LoraConfig(r=rank, lora_alpha=alpha, target_modules=names, lora_dropout=0.0, use_rslora=rslora)


base.config.name_or_path = base.name_or_path = "models/tiny"
model = get_peft_model(base, config([1, 3], 2, 3), adapter_name="two")
model.add_adapter("three", config([1, 2], 3, 5, rslora=True))
model.add_adapter("other", config([1], 3, 2))
for name, parameter in model.named_parameters():
    if "lora_" in name:
        torch.nn.init.normal_(parameter, std=0.2)
tensors, refused = {}, []


def combine(adapters, name, **options):
    kind = name.removesuffix("_1").removesuffix("_frequency")
    if "_frequency" in name:
        options["majority_sign_method"] = "frequency"
    model.base_model.add_weighted_adapter(adapters, [0.75, -0.4], name, combination_type=kind, **options)
    for key, value in get_peft_model_state_dict(model, adapter_name=name).items():
        tensors[f"{name}.{key}"] = value.clone().contiguous()


for name, options in {
        "cat": {}, "svd": {}, "svd_1": {"svd_rank": 1}, "ties_svd": {"density": 0.5},
        "ties_svd_frequency": {"density": 0.5}, "magnitude_prune_svd": {"density": 0.3}, "dare_linear_svd": {"density": 1},
        "dare_ties_svd": {"density": 1}, "dare_ties_svd_frequency": {"density": 1}}.items():
    combine(["two", "three"], name, **options)
for name, options in {
        "linear": {}, "ties": {"density": 0.5}, "ties_frequency": {"density": 0.5}, "magnitude_prune": {"density": 0.3},
        "dare_linear": {"density": 1}, "dare_ties": {"density": 1}, "dare_ties_frequency": {"density": 1}}.items():
    combine(["other", "three"], name, **options)
    try:
        combine(["two", "three"], name + "_1", **options)
    except ValueError as error:
        assert "same r value" in str(error), error
        refused.append(name)
save_file(tensors, here / "combined_ranks.safetensors", {"refused": ",".join(refused)})
for name in ["two", "three", "other"]:
    shutil.rmtree(here / "ranks" / name, ignore_errors=True)
    model.save_pretrained(here / "ranks", selected_adapters=[name])
    (here / "ranks" / name / "README.md").unlink(missing_ok=True)
(here / "ranks" / "README.md").unlink(missing_ok=True)
