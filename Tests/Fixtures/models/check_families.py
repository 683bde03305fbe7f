#!/usr/bin/env python3
"""What this engine writes of each family of make_families.py, read by transformers and PEFT.

usage: check_families.py QLORA_RUN [NAME...]

For each family the program loads the fixture and PEFT's adapter, saves the adapter, and saves the base as a folder; PEFT
and transformers must compute the logits that the program gives, in f32, on 17 tokens.
Needs: torch==2.13.0 transformers==5.23.0 peft==0.21.2 (PyPI).
"""
import json
import os
import subprocess
import sys
import tempfile

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

here = os.path.dirname(os.path.abspath(__file__))
families = os.path.join(here, "..", "families")
IDS = [(7 * i * i + 3 * i + 5) % 128 for i in range(17)]
RECIPE = """
local qlora = require "qlora"
local folder, target, ids = "%s", "%s", { %s }
local function numbers(m) return m:logits(ids):totable() end
local function write(name, rows) qlora.native.write_file(target .. "/" .. name, qlora.json.encode(rows)) end
local model = qlora.load(folder, { compute = "f32" })
write("base.json", numbers(model))
model:save(target .. "/saved")
model:add_adapter(folder .. "/adapter")
write("adapted.json", numbers(model))
model:save_adapter(target .. "/adapter")
"""


def distance(got, wanted):
    wanted = torch.tensor(wanted)
    return ((got - wanted).abs().max() / wanted.std()).item()


def check(program, name):
    folder = os.path.abspath(os.path.join(families, name))
    with tempfile.TemporaryDirectory() as target:
        recipe = os.path.join(target, "check.lua")
        with open(recipe, "w") as file:
            file.write(RECIPE % (folder, target, ", ".join(map(str, IDS))))
        subprocess.run([program, recipe], check=True, stdout=subprocess.DEVNULL)
        read = lambda f: json.load(open(os.path.join(target, f)))
        ids = torch.tensor([IDS])
        with torch.no_grad():
            # What is called a causal model of this one has the names of the text model alone.
            kind = AutoModelForImageTextToText if name == "qwen3_5" else AutoModelForCausalLM
            model = kind.from_pretrained(folder, dtype=torch.float32).eval()
            base = distance(model(ids).logits[0], read("base.json"))
            adapted = PeftModel.from_pretrained(model, os.path.join(target, "adapter")).eval()
            tuned = distance(adapted(ids).logits[0], read("adapted.json"))
            # Weights were rounded to bf16 when they were saved.
            saved = AutoModelForCausalLM.from_pretrained(os.path.join(target, "saved"), dtype=torch.float32).eval()
            own = distance(saved(ids).logits[0], read("base.json"))
    print(f"{name:12} base {base:.1e}   adapter saved here, in PEFT {tuned:.1e}   folder saved here (bf16) {own:.1e}")
    return base < 1e-4 and tuned < 1e-4 and own < 0.1


names = sys.argv[2:] or sorted(os.listdir(families))
sys.exit(0 if all([check(sys.argv[1], name) for name in names]) else 1)
