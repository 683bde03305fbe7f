"""What PEFT trains on the model Tests/Fixtures/models/bias, in f32: for each method the files of its start (NAME/start)
and of its end after 20 steps of AdamW (NAME/end), and in golden.json the losses, the norms of the gradients and the
logits of a prompt at the start and at the end. A method that changes the base has the start of its factors alone.

    python make_adapters.py [NAME ...]    # torch 2.13.0, peft 0.21.2, transformers 5.23.0, bitsandbytes 0.50.2
"""
import json, math, pathlib, shutil, sys
import bitsandbytes, peft, torch, transformers
import peft.tuners.lora.layer as peft_lora
from peft import (EvaConfig, IA3Config, LoftQConfig, LoraConfig, TrainableTokensConfig, VeraConfig, get_peft_model,
                  initialize_lora_eva_weights)
from peft.optimizers import create_loraplus_optimizer
from peft.utils.incremental_pca import IncrementalPCA
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
MODELS = HERE.parent / "models"
RATE, STEPS, RATIO = 0.01, 20, 4
PROMPT = [(7 * i * i + 3 * i + 5) % 128 for i in range(24)]
TARGETS = ["q_proj", "down_proj"]


def lora(**more):
    return LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": TARGETS, "task_type": "CAUSAL_LM", **more})


CASES = {
    "lora": lora(),
    "rslora": lora(use_rslora=True),
    "dora": lora(use_dora=True),
    "loraplus": lora(),
    "loraplus_dora": lora(use_dora=True),
    "bias_all": lora(target_modules=["q_proj"], bias="all"),
    "bias_lora_only": lora(target_modules=["q_proj"], bias="lora_only"),
    "modules_to_save": lora(target_modules=["q_proj"], modules_to_save=["lm_head", "model.norm"]),
    "ia3": IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"],
                     task_type="CAUSAL_LM"),
    "pissa": lora(init_lora_weights="pissa"),
    "olora": lora(init_lora_weights="olora"),
    "vera": VeraConfig(r=6, target_modules=["k_proj", "down_proj"], projection_prng_key=5, task_type="CAUSAL_LM"),
    # Without projections in the file, which both draw again.
    "vera_drawn": VeraConfig(r=6, target_modules=["k_proj", "down_proj"], projection_prng_key=5,
                             save_projection=False, bias="vera_only", task_type="CAUSAL_LM"),
    "eva": lora(target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights="eva",
                eva_config=EvaConfig(rho=2.0, tau=0.99)),
    "head": lora(target_modules=["embed_tokens", "lm_head", "q_proj"]),
    "embedding_tied": lora(target_modules=["embed_tokens", "q_proj"]),
    "both_tied": lora(target_modules=["embed_tokens", "q_proj"], ensure_weight_tying=True),
    "tokens": lora(target_modules=["q_proj"], trainable_token_indices=[3, 49, 12]),
    "tokens_tied": lora(target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [3, 49, 12]}),
    "tokens_alone": TrainableTokensConfig(target_modules=["embed_tokens"], token_indices=[3, 49, 12],
                                          task_type="CAUSAL_LM"),
    # Rows of whole blocks: for down_proj, [64, 96], bitsandbytes 0.50.2 dequantizes wrongly on the processor.
    "loftq": lora(target_modules=["q_proj", "o_proj"]),
}


# Set afterwards, because LoraConfig asks for SciPy, which NF4 does not need.
CASES["loftq"].init_lora_weights = "loftq"
CASES["loftq"].loftq_config = vars(LoftQConfig(loftq_bits=4, loftq_iter=2))


@torch.no_grad()
def loftq_on_cpu(weight, num_bits, reduced_rank, num_iter):
    """peft.utils.loftq_utils.loftq_init, which moves everything to a CUDA device, on the processor."""
    res = weight = weight.float()
    for i in range(num_iter):
        codes, state = bitsandbytes.functional.quantize_4bit(res.contiguous(), blocksize=64, quant_type="nf4")
        dequantized = bitsandbytes.functional.dequantize_4bit(codes, state)
        u, s, v = torch.linalg.svd(weight - dequantized, full_matrices=False)
        root = s[:reduced_rank].sqrt()
        b, a = u[:, :reduced_rank] * root, root[:, None] * v[:reduced_rank]
        res = weight - b @ a
    return dequantized, a, b


peft_lora.loftq_init = loftq_on_cpu
# The decomposition to the last bit, in the place of torch.svd_lowrank, whose random start no other program has.
IncrementalPCA._svd_fn_lowrank = IncrementalPCA._svd_fn_full


def batch(step):
    rows = [[(i * i + 7 * row + 13 * step) % 128 for i in range(20)] for row in range(2)]
    return torch.tensor(rows)


def save(model, name, **more):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, **more)
    clean(folder)


def clean(folder):
    (folder / "README.md").unlink(missing_ok=True)
    # No paths of this machine, and sets in one order.
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = pathlib.Path(config["base_model_name_or_path"]).name
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2) + "\n")


def logits(model):
    model.eval()
    with torch.no_grad():
        return [round(x, 7) for x in model(torch.tensor([PROMPT])).logits[0, -1].tolist()]


def tied_pairs(model):
    """PEFT keeps the adapter of a tied matrix twice, as (embedding's, output's): transposed views of one memory, which its
    optimizer would move twice a step. Both gradients belong to the one."""
    lora, = (m for n, m in model.named_modules() if n.endswith("embed_tokens"))
    head, = (m for n, m in model.named_modules() if n.endswith("lm_head"))
    pairs = [(lora.lora_embedding_B["default"], head.lora_A["default"].weight),
             (lora.lora_embedding_A["default"], head.lora_B["default"].weight)]
    assert all(one.data_ptr() == other.data_ptr() for one, other in pairs)
    return pairs


def run(name, config):
    torch.manual_seed(3)
    place = MODELS / ("tied" if name.endswith("tied") else "bias")
    base = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    model = get_peft_model(base, config)
    if name == "eva":
        initialize_lora_eva_weights(model, [{"input_ids": batch(step), "labels": batch(step)} for step in range(3)],
                                    show_progress_bar=False)
    pairs = tied_pairs(model) if name == "both_tied" else []
    own = [(n, p) for n, p in model.named_parameters()
           if p.requires_grad and not any(p is other for _, other in pairs)]
    start_free = name in ("pissa", "olora", "loftq")
    if not start_free:
        # Values away from zero, so that every tensor learns from the first step.
        with torch.no_grad():
            for n, p in own:
                if any(part in n for part in ("lora_B", "ia3", "vera_lambda_b", "embedding_A")):
                    p.add_(0.1 * torch.randn_like(p))
    save(model, f"{name}/start")
    first = logits(model)
    if name.startswith("loraplus"):
        optimizer = create_loraplus_optimizer(
            model, torch.optim.AdamW, lr=RATE, loraplus_lr_ratio=RATIO, weight_decay=0.0)
    else:
        optimizer = torch.optim.AdamW([p for _, p in own], lr=RATE, weight_decay=0.0)
    model.train()
    losses, norms = [], []
    for step in range(STEPS):
        optimizer.zero_grad()
        ids = batch(step)
        loss = model(ids, labels=ids).loss
        loss.backward()
        for one, other in pairs:
            one.grad += other.grad.t()
            other.grad = None
        losses.append(loss.item())
        norms.append(math.sqrt(sum(float((p.grad.double() ** 2).sum()) for _, p in own if p.grad is not None)))
        optimizer.step()
    result = {"parameters": sum(p.numel() for _, p in own), "losses": losses, "norms": norms, "start": first,
              "end": logits(model)}
    if name in ("pissa", "olora"):
        # As PEFT converts it to a plain adapter of the unchanged base, of twice the rank.
        save(model, f"{name}/end", path_initial_model_for_weight_conversion=str(HERE / name / "start"))
        clean(HERE / name / "start")  # which PEFT wrote again
    else:
        save(model, f"{name}/end")
    return result


if __name__ == "__main__":
    path = HERE / "golden.json"
    golden = json.loads(path.read_text()) if path.exists() else {}
    for name in sys.argv[1:] or CASES:
        golden[name] = run(name, CASES[name])
    golden["versions"] = {"peft": peft.__version__, "torch": torch.__version__,
                          "transformers": transformers.__version__, "bitsandbytes": bitsandbytes.__version__}
    golden["settings"] = {"lr": RATE, "steps": STEPS, "ratio": RATIO}
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items())
    path.write_text("{" + lines + "}\n")
