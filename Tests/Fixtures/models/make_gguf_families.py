#!/usr/bin/env python3
"""The tiny models of make_families.py and make_experts.py as llama.cpp's own converter writes them, in f32:
../families/NAME/model.gguf; those of KEPT in Q8_0 too: model.q8_0.gguf.

usage: make_gguf_families.py LLAMA_CPP [NAME...]

LLAMA_CPP is the folder of llama.cpp's sources; those of PyPI's llama-cpp-python 0.3.36 (vendor/llama.cpp) were used.
The converter asks for a tokenizer; the models have none, so a list of 128 words stands for it and is not written.
"""
import json
import logging
import os
import pathlib
import shutil
import sys
import tempfile

sys.path[:0] = [sys.argv[1], os.path.join(sys.argv[1], "gguf-py")]
import gguf
from conversion import ModelBase, ModelType, get_model_architecture, get_model_class

logging.disable(logging.INFO)
families = pathlib.Path(__file__).resolve().parent.parent / "families"
# llama.cpp's files hold neither the pattern of windows of gemma3's text model nor the activation; it knows no layers
# without experts beside some that have them, and no window of Mistral. Multimodal models are not written again.
NAMES = sorted({path.name for path in families.iterdir()} - {"gemma3", "gpt_neox_serial", "mistral", "qwen3_moe", "qwen3_next",
                                                            "qwen3_5", "qwen3_5_moe"})
KEPT = ["qwen3_moe_full", "gpt_oss_mxfp4"]


def convert(name, file="model.gguf", kept=gguf.LlamaFileType.ALL_F32):
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, name)
        shutil.copytree(families / name, source, ignore=shutil.ignore_patterns("*.gguf", "adapter*"))
        words = {"model": {"vocab": {f"w{i}": i for i in range(128)}}, "added_tokens": []}
        (source / "tokenizer.json").write_text(json.dumps(words))
        kind = get_model_class(get_model_architecture(ModelBase.load_hparams(source, False), ModelType.TEXT))
        kind.set_vocab = lambda self: None
        kind.no_mtp = True  # the models have no layers that predict ahead
        model = kind(source, kept, families / name / file)
        if name == "gpt_neox":
            # The converter knows the name of transformers 4, which transformers 5 does not give.
            model.hparams["rotary_pct"] = model.rope_parameters["partial_rotary_factor"]
        model.write()


for name in sys.argv[2:] or NAMES:
    convert(name)
    if name in KEPT:
        convert(name, "model.q8_0.gguf", gguf.LlamaFileType.MOSTLY_Q8_0)
