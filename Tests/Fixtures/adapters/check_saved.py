"""What this engine trains and saves with each method, read by PEFT: equal logits in f32, and PEFT's tensors.

    python check_saved.py QLORA_RUN [--store] [NAME ...]    # torch 2.13.0, peft 0.21.2, transformers 5.23.0

For each method the program makes adapters on Tests/Fixtures/models/bias, trains them for some steps, saves them and
gives its logits of a prompt. PEFT loads the folder: its logits must be within 1e-4 of their standard deviation, and the
names and shapes of what it would save itself must be those of our file. With --store the folder becomes saved/NAME and
PEFT's logits go to saved.json, which SavedAdapterTests holds against the writer.
"""
import json, pathlib, shutil, subprocess, sys, tempfile
import peft, torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent.resolve()
MODELS = HERE.parent / "models"
PROMPT = [(7 * i * i + 3 * i + 5) % 128 for i in range(24)]
LORA = 'model:add_lora { select = { "q_proj" }, rank = 4, alpha = 8, %s }'
SEVERAL = 'model:add_lora { select = { "q_proj", "down_proj" }, rank = 4, alpha = 8, %s }'
METHODS = {
    "lora": SEVERAL % "",
    "rslora": SEVERAL % "rslora = true",
    "dora": SEVERAL % 'method = "dora"',
    "bias_all": LORA % 'bias = "all"',
    "bias_lora_only": LORA % 'bias = "lora_only"',
    "modules_to_save": LORA % 'modules_to_save = { "lm_head", "model.norm" }',
    "ia3": 'model:add_ia3 { select = { "k_proj", "down_proj" } }',
    "vera": 'model:add_vera { select = { "k_proj", "down_proj" }, rank = 6, key = 5 }',
    "vera_drawn": 'model:add_vera { select = { "k_proj", "down_proj" }, rank = 6, key = 5, save_projection = false }',
    "head": SEVERAL.replace('"down_proj"', '"embed_tokens", "lm_head"') % "",
    "embedding_tied": SEVERAL.replace("down_proj", "embed_tokens") % "",
    "both_tied": SEVERAL.replace("down_proj", "embed_tokens") % "tied = true",
    "tokens": LORA % "tokens = { 3, 49, 12 }",
    "tokens_tied": LORA % "tokens = { 3, 49, 12 }",
    "tokens_alone": "model:train_tokens { 3, 49, 12 }",
    "folded": """model:add_lora { select = function(m)
        return (m.role == "q_proj" or m.role == "down_proj")
          and { rank = 2 + m.layer, alpha = m.role == "q_proj" and 8 or 3, rslora = true }
      end }""",
    "pissa": SEVERAL % 'init = "pissa"',
    "olora": SEVERAL % 'init = "olora"',
    "loftq": SEVERAL % 'init = "loftq", niter = 2',
}
RECIPE = """
local qlora = require "qlora"
local target, ids = "%s", { %s }
local model = qlora.load("%s", { quant = false, compute = "f32", quiet = true })
%s
local optimizer = qlora.optim.adamw(model:trainable(), { lr = 0.01 })
for step = 1, 5 do
  local row = {}
  for i = 0, 19 do row[#row + 1] = (i * i + 13 * step) %% 128 end
  optimizer:zero_grad()
  model:loss(qlora.data.batch { { ids = row, labels = row } }):backward()
  optimizer:step()
end
model:save_adapter(target .. "/adapter", { fold = %s })
qlora.native.write_file(target .. "/logits.json", qlora.json.encode(model:logits(ids):totable()))
local weights = {}
for module in model:modules() do
  if module.adapter and %s then weights[module.name] = model:module(module.name):weight():totable() end
end
qlora.native.write_file(target .. "/weights.json", qlora.json.encode(weights))
"""


def distance(got, wanted):
    wanted = torch.as_tensor(wanted)
    return ((torch.as_tensor(got) - wanted).abs().max() / wanted.std()).item()


def check(program, name, store):
    base = MODELS / ("tied" if name.endswith("tied") else "bias")
    with tempfile.TemporaryDirectory() as target:
        target = pathlib.Path(target)
        recipe = target / "check.lua"
        recipe.write_text(RECIPE % (target, ", ".join(map(str, PROMPT)), base, METHODS[name],
                                    "true" if name == "folded" else "false",
                                    "true" if name == "loftq" else "false"))
        subprocess.run([program, recipe], check=True, stdout=subprocess.DEVNULL)
        ours = json.loads((target / "logits.json").read_text())
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        # LoftQ's base is another one: that in NF4, which transformers gets dequantized.
        for module, weight in (json.loads((target / "weights.json").read_text()) or {}).items():
            model.get_submodule(module).weight.data = torch.tensor(weight)
        plain = model(torch.tensor([PROMPT])).logits[0].detach()
        model = PeftModel.from_pretrained(model, target / "adapter").eval()
        with torch.no_grad():
            theirs = model(torch.tensor([PROMPT])).logits[0]
        off, moved = distance(ours, theirs), distance(plain, theirs)
        stored = {k: list(v.shape) for k, v in load_file(target / "adapter/adapter_model.safetensors").items()}
        known = {k: list(v.shape) for k, v in get_peft_model_state_dict(model).items()}
        # PEFT would save the frozen embedding too.
        known = {k: shape for k, shape in known.items() if not k.endswith("base_layer.weight")}
        same = stored == known
        print(f"{name:16} logits off by {off:.1e} of a deviation, the adapter moves them by {moved:.2f}; "
              f"tensors {'equal' if same else 'DIFFER: ' + str(set(stored) ^ set(known))}")
        if store and name != "loftq":  # whose base no file here has
            folder = HERE / "saved" / name
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(target / "adapter", folder)
            config = folder / "adapter_config.json"
            config.write_text(config.read_text().replace(str(base), base.name))
            path = HERE / "saved.json"
            golden = json.loads(path.read_text()) if path.exists() else {}
            golden[name] = [round(x, 7) for x in theirs[-1].tolist()]
            path.write_text("{" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in golden.items()) + "}\n")
        return same and moved > 0.01 and off < 1e-4


if __name__ == "__main__":
    print("peft", peft.__version__, "torch", torch.__version__)
    arguments = [a for a in sys.argv[2:] if a != "--store"]
    wrong = [name for name in arguments or METHODS if not check(sys.argv[1], name, "--store" in sys.argv)]
    sys.exit(f"wrong: {wrong}" if wrong else 0)
