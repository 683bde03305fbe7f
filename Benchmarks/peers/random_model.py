#!/usr/bin/env python3
"""Writes the shape of TinyLlama-1.1B with random bf16 weights as a Hugging Face directory, for timings.

usage: random_model.py OUT_DIR
"""
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
torch.set_default_dtype(torch.bfloat16)
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32,
    num_key_value_heads=4, max_position_embeddings=2048, rms_norm_eps=1e-5, tie_word_embeddings=False))
model.save_pretrained(sys.argv[1])
