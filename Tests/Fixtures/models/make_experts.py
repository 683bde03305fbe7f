#!/usr/bin/env python3
"""A tiny random model of each family with experts, with what transformers computes from it.

usage: make_experts.py [NAME...]          (writes ../families/NAME; without names all of them)

Needs: torch==2.13.0 transformers==5.23.0 safetensors (PyPI). Everything else is f32 on the CPU. golden.safetensors holds what
that of make_families.py does. transformers keeps the experts of a layer in one tensor, so the adapter, which has a matrix
for each expert, is added to the weights here; PEFT's rule is W + alpha / r * B A. Gradients of recurrent families are those in
double precision: keys near 0, which are brought to the length 1, make transformers' own in f32 differ from these by 8e-5. Of gpt_oss_mxfp4 the experts are stored
as blocks and scales, with the values that transformers gives these.

adapter_parameters is PEFT's own adapter (0.21.2) on attention and, by target_parameters, on experts and routers;
`parameter_logits`, `parameter_loss` and `parameter_grad.KEY` are what PEFT computes with it. `attention` of gpt_oss are the
weights of the first layer.
"""
import json
import os
import shutil
import sys

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch.func import functional_call
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from make_families import COMMON, IDS, LONG_IDS, LONG_ROWS, here

RANK, ALPHA = 3, 6
FAMILIES = {
    "qwen3_moe": dict(model_type="qwen3_moe", head_dim=16, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=24,
                      norm_topk_prob=True, mlp_only_layers=[1], num_hidden_layers=3, decoder_sparse_step=1),
    # llama.cpp knows no layers without experts; and matrices that have blocks.
    "qwen3_moe_full": dict(model_type="qwen3_moe", head_dim=16, num_experts=4, num_experts_per_tok=2,
                           moe_intermediate_size=32, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[]),
    "olmoe": dict(model_type="olmoe", num_experts=6, num_experts_per_tok=3, norm_topk_prob=False,
                  output_router_logits=True, router_aux_loss_coef=0.05),
    "mixtral": dict(model_type="mixtral", num_local_experts=4, num_experts_per_tok=2, sliding_window=None),
    "gpt_oss": dict(model_type="gpt_oss", head_dim=16, num_local_experts=4, num_experts_per_tok=2, sliding_window=40,
                    rope_parameters=dict(rope_type="yarn", rope_theta=150000.0, factor=8.0, beta_fast=32.0, beta_slow=1.0,
                                         original_max_position_embeddings=64, truncate=False)),
    "qwen3_next": dict(model_type="qwen3_next", head_dim=16, num_experts=6, num_experts_per_tok=2, norm_topk_prob=True,
                       moe_intermediate_size=24, shared_expert_intermediate_size=20, mlp_only_layers=[1],
                       decoder_sparse_step=1, num_hidden_layers=4, partial_rotary_factor=0.5, linear_num_key_heads=2,
                       linear_num_value_heads=4, linear_key_head_dim=12, linear_value_head_dim=20,
                       linear_conv_kernel_dim=4),
}
# llama.cpp knows no layers without experts.
FAMILIES["qwen3_next_full"] = {**FAMILIES["qwen3_next"], "mlp_only_layers": [], "num_experts": 3, "num_hidden_layers": 2,
                               "full_attention_interval": 2, "tie_word_embeddings": True}
FAMILIES["qwen3_5_moe_text"] = {key: value for key, value in FAMILIES["qwen3_next"].items()
                                if key not in ("norm_topk_prob", "mlp_only_layers", "decoder_sparse_step")}
FAMILIES["qwen3_5_moe_text"] |= dict(model_type="qwen3_5_moe_text", num_experts=4, num_hidden_layers=2,
                                     full_attention_interval=2, tie_word_embeddings=True)
FAMILIES["gpt_oss_mxfp4"] = {**FAMILIES["gpt_oss"], "intermediate_size": 64}
# A text model inside a multimodal one.
WHOLE = {"qwen3_5_moe": dict(
    model_type="qwen3_5_moe", tie_word_embeddings=True,
    text_config={**COMMON, **FAMILIES["qwen3_5_moe_text"], "num_experts": 3,
                 "rope_parameters": dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.25,
                                         mrope_interleaved=True, mrope_section=[1, 1, 0])},
    vision_config=dict(hidden_size=8, intermediate_size=8, depth=1, num_heads=2, patch_size=4, out_hidden_size=32,
                       num_position_embeddings=16))}
FUSED = ("gate_up_proj", "down_proj")


def stacked(name, tensors):
    """The tensor of transformers for a module of the checkpoint, and the rows of it that the module is."""
    head, _, tail = name.partition(".experts.")
    number, role = tail.split(".")
    if role == "gate_up_proj" or head + ".experts.down_proj_bias" in tensors:
        return head + ".experts." + role, int(number), None
    inner = tensors[name + ".weight"].shape[0]
    head = head.replace("block_sparse_moe", "mlp")
    if role in ("down_proj", "w2"):
        return head + ".experts.down_proj", int(number), slice(None)
    return head + ".experts.gate_up_proj", int(number), slice(0, inner) if role in ("gate_proj", "w1") else slice(inner, None)


def mxfp4(model):
    """Random blocks and scales for the experts, whose values the model gets."""
    stored = {}
    for key, p in model.named_parameters():
        if key.split(".")[-1] in FUSED:
            experts, inner, out = p.shape
            # A gate_up of transformers has columns for rows.
            blocks = torch.randint(0, 256, (experts, out, inner // 32, 16), dtype=torch.uint8)
            scales = torch.randint(122, 126, (experts, out, inner // 32), dtype=torch.uint8)
            if "down" in key:
                scales -= 1
            p.copy_(convert_moe_packed_tensors(blocks, scales))
            stored |= {key + "_blocks": blocks, key + "_scales": scales}
    return stored


def doubled(model, folder):
    """The model in double precision, with what transformers computes in f32 whatever its weights are in double too."""
    module = sys.modules[type(model).__module__]
    with open(module.__file__) as file:
        source = file.read()
    for old, new in (("torch.float32", "torch.float64"), (".float()", ".double()"), ("dtype=torch.float,", "dtype=torch.double,")):
        source = source.replace(old, new)
    exec(compile(source, module.__file__, "exec"), module.__dict__)
    return getattr(module, type(model).__name__).from_pretrained(
        folder, dtype=torch.float32, experts_implementation="eager").double().eval()


def merged(weights, adapter, modules, tensors):
    """The weights with the adapter added."""
    result = {key: value.detach().clone() for key, value in weights.items()}
    for module in modules:
        delta = ALPHA / RANK * adapter[module + ".lora_B.weight"] @ adapter[module + ".lora_A.weight"]
        if ".experts." not in module:
            result[module + ".weight"] = result[module + ".weight"] + delta
            continue
        key, number, rows = stacked(module, tensors)
        if rows is None:
            result[key] = result[key] + torch.nn.functional.one_hot(
                torch.tensor(number), len(result[key]))[:, None, None] * delta.T
            continue
        full = torch.zeros_like(result[key])
        index = torch.zeros_like(full, dtype=torch.bool)
        index[number, rows] = True
        result[key] = result[key] + full.masked_scatter(index, delta)
    return result


def store(folder, blocks):
    path = os.path.join(folder, "model.safetensors")
    tensors = {key: value for key, value in load_file(path).items() if key + "_blocks" not in blocks}
    save_file(tensors | blocks, path, metadata={"format": "pt"})
    path = os.path.join(folder, "config.json")
    with open(path) as file:
        config = json.load(file)
    config["quantization_config"] = dict(quant_method="mxfp4", modules_to_not_convert=["model.layers.*.self_attn"])
    with open(path, "w") as file:
        json.dump(config, file, indent=2)


def parameters(model, folder, name, ids):
    """PEFT's adapter with target_parameters."""
    router = "mlp.router.weight" if name.startswith("gpt_oss") else "mlp.gate.weight"
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["q_proj", "o_proj"], rank_pattern={"down_proj": 2},
                        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj", router])
    adapted = get_peft_model(model, config).eval()
    for key, p in adapted.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(p, std=0.1)
    path = os.path.join(folder, "adapter_parameters")
    adapted.save_pretrained(path)
    os.remove(os.path.join(path, "README.md"))
    output = adapted(ids, labels=ids)
    output.loss.backward()
    result = dict(parameter_logits=output.logits[0].detach(), parameter_loss=output.loss.detach().reshape(1))
    for key, p in adapted.named_parameters():
        if p.requires_grad:
            result["parameter_grad." + key.replace(".default", "")] = p.grad
    return result


def write(name):
    torch.manual_seed(0)
    config = AutoConfig.for_model(**{**COMMON, **FAMILIES[name]})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            if key.endswith("bias") or "norm" in key:
                p.add_(0.3 * torch.randn_like(p))
            elif "experts" in key or "gate" in key or "router" in key:
                # So that some gates of gpt-oss are bounded.
                p.normal_(std=0.6 if name.startswith("gpt_oss") and "gate_up" in key else 0.2)
        blocks = mxfp4(model) if name == "gpt_oss_mxfp4" else {}
    folder = os.path.join(here, "..", "families", name)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    if blocks:
        store(folder, blocks)
    tensors = load_file(os.path.join(folder, "model.safetensors"))
    ids = torch.tensor([IDS])
    with torch.no_grad():
        golden = {"logits": model(ids).logits[0]}
        golden["long_logits"] = model(torch.tensor([LONG_IDS])).logits[0][LONG_ROWS]
    roles = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3", "in_proj_qkvz",
             "in_proj_ba", "in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a", "out_proj", "shared_expert_gate")
    shapes = {key[:-7]: value.shape for key, value in tensors.items()
              if key.endswith(".weight") and key.split(".")[-2] in roles}
    for key, value in model.named_parameters():
        if name.startswith("gpt_oss") and key.split(".")[-1] in FUSED:
            for number, matrix in enumerate(value):
                head, _, role = key.rpartition(".")
                shapes[f"{head}.{number}.{role}"] = matrix.T.shape
    modules = sorted(shapes)
    adapter = {}
    for module in modules:
        out, inner = shapes[module]
        adapter[module + ".lora_A.weight"] = (torch.rand(RANK, inner) * 2 - 1) / inner ** 0.5
        adapter[module + ".lora_B.weight"] = torch.randn(out, RANK) * 0.1
    for value in adapter.values():
        value.requires_grad_()
    adapted = merged(dict(model.named_parameters()), adapter, modules, tensors)
    output = functional_call(model, adapted, (ids,), dict(labels=ids))
    output.loss.backward()
    golden["adapted_logits"] = output.logits[0].detach()
    golden["loss"] = output.loss.detach().reshape(1)
    exact = adapter
    if any(".linear_attn." in module for module in modules):
        exact = {key: value.detach().double().requires_grad_() for key, value in adapter.items()}
        with torch.random.fork_rng():
            double = doubled(model, folder)
        weights = merged(dict(double.named_parameters()), exact, modules, tensors)
        functional_call(double, weights, (ids,), dict(labels=ids)).loss.backward()
    for key, value in exact.items():
        golden["grad." + key] = (torch.zeros_like(value) if value.grad is None else value.grad).float()
    if name == "gpt_oss":
        with torch.no_grad():
            golden["attention"] = model(ids, output_attentions=True).attentions[0][0]
    golden |= parameters(model, folder, name, ids)
    save_file({key: value.contiguous() for key, value in golden.items()}, os.path.join(folder, "golden.safetensors"))
    os.makedirs(os.path.join(folder, "adapter"))
    save_file({"base_model.model." + key: value.detach().contiguous() for key, value in adapter.items()},
              os.path.join(folder, "adapter", "adapter_model.safetensors"))
    with open(os.path.join(folder, "adapter", "adapter_config.json"), "w") as file:
        json.dump(dict(peft_type="LORA", task_type="CAUSAL_LM", base_model_name_or_path=None, r=RANK, lora_alpha=ALPHA,
                       lora_dropout=0.0, bias="none", target_modules=sorted({m.split(".")[-1] for m in modules})), file,
                  indent=1)
    extra = os.path.join(folder, "generation_config.json")
    if os.path.exists(extra):
        os.remove(extra)


def write_whole(name):
    """A multimodal model with a layer that predicts ahead, whose text model's logits transformers gives; no adapter."""
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(**WHOLE[name]), dtype=torch.float32).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            if "norm" in key:
                p.add_(0.3 * torch.randn_like(p))
            elif "experts" in key or "gate" in key:
                p.normal_(std=0.2)
        golden = {"logits": model(input_ids=torch.tensor([IDS])).logits[0],
                  "long_logits": model(input_ids=torch.tensor([LONG_IDS])).logits[0][LONG_ROWS]}
    folder = os.path.join(here, "..", "families", name)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    path = os.path.join(folder, "model.safetensors")
    ahead = {"mtp.fc.weight": torch.randn(32, 64), "mtp.norm.weight": torch.randn(32),
             "mtp.layers.0.input_layernorm.weight": torch.randn(32)}
    save_file(load_file(path) | ahead, path, metadata={"format": "pt"})
    save_file({key: value.contiguous() for key, value in golden.items()}, os.path.join(folder, "golden.safetensors"))
    os.remove(os.path.join(folder, "generation_config.json"))


if __name__ == "__main__":
    for name in sys.argv[1:] or [*FAMILIES, *WHOLE]:
        write_whole(name) if name in WHOLE else write(name)
