#!/usr/bin/env python3
"""The other side of generation.py: llama.cpp on the same GGUF file.

usage: llama.py MODEL.gguf PROMPT TOKENS FLASH(0|1) THREADS     or     llama.py --quantize FROM.gguf TO.gguf
Prints a line of JSON when the model is loaded. A line of input says `prompt` (one forward pass over PROMPT tokens) or
`greedy` (TOKENS new ones after a short prompt); the answer has the tokens and the seconds. The last line has peak_mb,
VmHWM of the process. --quantize writes a file as Q4_0, the format for which llama.cpp has its fastest kernels.
"""
import ctypes
import json
import os
import sys
import time

import llama_cpp as L
import numpy as np


@L.llama_log_callback
def silent(level, text, data):
    pass


L.llama_log_set(silent, ctypes.c_void_p(0))
L.llama_backend_init()
if sys.argv[1] == "--quantize":
    how = L.llama_model_quantize_default_params()
    how.ftype, how.allow_requantize = L.LLAMA_FTYPE_MOSTLY_Q4_0, True
    sys.exit(L.llama_model_quantize(sys.argv[2].encode(), sys.argv[3].encode(), ctypes.byref(how)))

path = sys.argv[1]
prompt, tokens, flash, threads = map(int, sys.argv[2:6])
start = time.perf_counter()
model = L.llama_model_load_from_file(path.encode(), L.llama_model_default_params())
settings = L.llama_context_default_params()
settings.n_ctx, settings.n_batch, settings.n_ubatch = 2048, 512, 512
settings.n_threads = settings.n_threads_batch = threads
settings.flash_attn_type = L.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash else L.LLAMA_FLASH_ATTN_TYPE_DISABLED
context = L.llama_init_from_model(model, settings)
loaded = time.perf_counter() - start
vocabulary = L.llama_vocab_n_tokens(L.llama_model_get_vocab(model))
text = b"Once upon a time there was a"
short = (L.llama_token * 64)()
count = L.llama_tokenize(L.llama_model_get_vocab(model), text, len(text), short, 64, True, False)


def decode(ids):
    array = (L.llama_token * len(ids))(*ids)
    if L.llama_decode(context, L.llama_batch_get_one(array, len(ids))):
        raise SystemExit("llama_decode failed")
    # The logits are computed when they are asked for at the latest.
    return np.ctypeslib.as_array(L.llama_get_logits_ith(context, -1), (vocabulary,))


def run(work):
    L.llama_memory_clear(L.llama_get_memory(context), True)
    if work == "prompt":
        decode([i * 7919 % (vocabulary - 1) + 1 for i in range(1, prompt + 1)])
        return prompt
    following = int(decode(short[:count]).argmax())
    for _ in range(tokens - 1):
        following = int(decode([following]).argmax())
    return tokens


def say(**fields):
    print(json.dumps(fields), flush=True)


system = L.llama_print_system_info().decode()
features = [part.split("=")[0].strip().split(" ")[-1] for part in system.split("|") if part.strip().endswith("= 1")]
say(load_s=loaded, version=f"llama-cpp-python {L.__version__} ({' '.join(features)})")
for line in sys.stdin:
    began = time.perf_counter()
    made = run(line.strip())
    say(tokens=made, seconds=time.perf_counter() - began)
say(peak_mb=next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.stdout.flush()
os._exit(0)
