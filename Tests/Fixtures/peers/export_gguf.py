#!/usr/bin/env python3
"""Writes a GGUF model as a Hugging Face directory of plain safetensors.

usage: export_gguf.py MODEL.gguf OUT_DIR f32|bf16

transformers marks what it read from a GGUF as quantized and then refuses to save it; the marks are taken off. It also
overlooks tokenizer.ggml.pre = smollm, by which every digit is a token of its own.
"""
import os
import sys

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def tokenizer_of(path):
    folder, name = os.path.split(os.path.abspath(path))
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return tokenizer


def model_of(path, dtype):
    folder, name = os.path.split(os.path.abspath(path))
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=dtype)
    for mark in ("hf_quantizer", "is_quantized", "quantization_method"):
        model.__dict__.pop(mark, None)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


if __name__ == "__main__":
    source, target, dtype = sys.argv[1:4]
    model_of(source, DTYPES[dtype]).save_pretrained(target)
    tokenizer_of(source).save_pretrained(target)
