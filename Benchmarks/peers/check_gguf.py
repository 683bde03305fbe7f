#!/usr/bin/env python3
"""llama.cpp's side of check_gguf.sh.

usage: check_gguf.py --bases WORK       quantizes WORK/base-f32.gguf with llama.cpp: what people serve
       check_gguf.py WORK DATA.jsonl [LINES]    compares greedy tokens and perplexities; exits with 1 when a line fails

Quantized matrices are multiplied by inputs that llama.cpp rounds to 8 bits, F16 and BF16 ones by inputs in 16 bits. So
each file is compared in an F32 copy of its decoded weights that llama.cpp's quantizer writes: its activations are f32,
as the engine's are. The cache is f32 too.
Needs: llama-cpp-python==0.3.36 built from source, numpy.
"""
import ctypes
import json
import os
import sys

import llama_cpp as L
import numpy as np

TYPES = {"f32": L.LLAMA_FTYPE_ALL_F32, "f16": L.LLAMA_FTYPE_MOSTLY_F16, "bf16": L.LLAMA_FTYPE_MOSTLY_BF16,
         "q8_0": L.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": L.LLAMA_FTYPE_MOSTLY_Q4_0, "q4_k_m": L.LLAMA_FTYPE_MOSTLY_Q4_K_M,
         "q5_k_m": L.LLAMA_FTYPE_MOSTLY_Q5_K_M, "q6_k": L.LLAMA_FTYPE_MOSTLY_Q6_K}
KEPT = ["q8_0", "q4_k_m", "q6_k"]
ROOM, SEQUENCES = 1024, 16
THREADS = len(os.sched_getaffinity(0))


@L.llama_log_callback
def silent(level, text, data):
    pass


def quantize(source, target, kind):
    how = L.llama_model_quantize_default_params()
    how.ftype, how.allow_requantize, how.nthread = TYPES[kind], True, THREADS
    if L.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(how)):
        raise SystemExit(f"llama.cpp could not quantize {source} to {target}")


class Model:
    """A file, with an adapter or without, computed with f32 keys and values and no flash attention."""

    def __init__(self, path, adapter=None):
        self.model = L.llama_model_load_from_file(path.encode(), L.llama_model_default_params())
        settings = L.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = ROOM
        settings.n_seq_max, settings.kv_unified = SEQUENCES, True
        settings.n_threads = settings.n_threads_batch = THREADS
        settings.type_k = settings.type_v = L.GGML_TYPE_F32
        settings.flash_attn_type = L.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = L.llama_init_from_model(self.model, settings)
        if not self.model or not self.context:
            raise SystemExit(f"llama.cpp cannot read {path}")
        self.vocabulary = L.llama_model_get_vocab(self.model)
        self.size = L.llama_vocab_n_tokens(self.vocabulary)
        self.batch = L.llama_batch_init(ROOM, 0, 1)
        if adapter:
            lora = L.llama_adapter_lora_init(self.model, adapter.encode())
            if not lora:
                raise SystemExit(f"llama.cpp cannot read {adapter}")
            self.use(lora)

    def use(self, lora):
        """One adapter at scale 1; the call's name changed between versions."""
        if hasattr(L, "llama_set_adapters_lora"):
            code = L.llama_set_adapters_lora(
                self.context, (L.llama_adapter_lora_p_ctypes * 1)(lora), 1, (ctypes.c_float * 1)(1.0))
        else:
            code = L.llama_set_adapter_lora(self.context, lora, 1.0)
        if code:
            raise SystemExit("llama.cpp does not take the adapter")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        L.llama_batch_free(self.batch)
        L.llama_free(self.context)
        L.llama_model_free(self.model)

    def ids(self, text):
        text, room = text.encode(), (L.llama_token * 512)()
        return list(room[:L.llama_tokenize(self.vocabulary, text, len(text), room, 512, True, False)])

    def clear(self):
        L.llama_memory_clear(L.llama_get_memory(self.context), True)

    def logits(self, rows, every=False):
        """Rows are (sequence, its first position, tokens), computed together: those of every token or of each row's last
        one, [rows or tokens, vocabulary]."""
        count = 0
        for sequence, position, ids in rows:
            for i, token in enumerate(ids):
                self.batch.token[count], self.batch.pos[count] = token, position + i
                self.batch.n_seq_id[count], self.batch.seq_id[count][0] = 1, sequence
                self.batch.logits[count] = every or i == len(ids) - 1
                count += 1
        self.batch.n_tokens = count
        if L.llama_decode(self.context, self.batch):
            raise SystemExit("llama_decode failed")
        return np.ctypeslib.as_array(L.llama_get_logits(self.context), (count if every else len(rows), self.size)).copy()

    def greedy(self, prompts, count):
        """The `count` likeliest tokens after each prompt, and the least distance of a likeliest from the next."""
        self.clear()
        last = self.logits([(i, 0, ids) for i, ids in enumerate(prompts)])
        found, margin = [[] for _ in prompts], np.inf
        for step in range(count):
            for tokens, row in zip(found, last):
                second, first = np.partition(row, -2)[-2:]
                tokens.append(int(row.argmax()))
                margin = min(margin, float(first - second))
            if step < count - 1:
                last = self.logits([(i, len(prompts[i]) + step, [tokens[-1]]) for i, tokens in enumerate(found)])
        return found, margin

    def perplexity(self, texts):
        total, count = 0.0, 0
        texts = [ids for ids in texts if len(ids) > 1]
        while texts:
            group = []
            while texts and len(group) < SEQUENCES and sum(map(len, group)) + len(texts[0]) <= ROOM:
                group.append(texts.pop(0))
            self.clear()
            every = self.logits([(i, 0, ids) for i, ids in enumerate(group)], every=True)
            for ids in group:
                rows, every = every[:len(ids) - 1].astype(np.float64), every[len(ids):]
                rows -= rows.max(axis=1, keepdims=True)
                total += float((np.log(np.exp(rows).sum(axis=1)) - rows[np.arange(len(ids) - 1), ids[1:]]).sum())
                count += len(ids) - 1
        return float(np.exp(total / count)), count


good = True


def line(name, holds, text):
    global good
    good = good and holds
    print(f"{'ok  ' if holds else 'FAIL'} {name:44} {text}", flush=True)


def compare(name, path, rows, adapter=None):
    """The engine's tokens against those of a file."""
    with Model(path, adapter) as model:
        found, margin = model.greedy([row["ids"] for row in rows], 32)
    same = [next((i for i, (a, b) in enumerate(zip(tokens, row["tokens"])) if a != b), len(row["tokens"]))
            for tokens, row in zip(found, rows)]
    line(name, same == [32, 32, 32], f"equal tokens {same} of 32; nearest second token {margin:.4f} below")


def main(work, data, lines="100"):
    said = json.load(open(f"{work}/said.json"))

    def at(name):
        return f"{work}/{name}.gguf"

    with Model(at("base-f32")) as model:
        prompts = ["Once upon a time there was a", "The three largest cities of France are"]
        line("prompts", [model.ids(text) for text in prompts] == [said["base"]["f32"][i]["ids"] for i in (0, 2)],
             "llama.cpp gives them the same tokens")
    compare("base in f32", at("base-f32"), said["base"]["f32"])
    compare("base in f32, adapter.gguf", at("base-f32"), said["adapter"]["f32"], at("adapter"))
    compare("merged in f32", at("merged-f32"), said["merged"]["f32"])
    # The merged file computes what the adapter does beside its base.
    compare("merged in f32, the adapter in the engine", at("merged-f32"), said["adapter"]["f32"])
    for name in ("base", "merged"):
        for kind in sorted(said[name], key=lambda kind: kind not in KEPT):
            if kind == "f32":
                continue
            quantize(at(f"{name}-{kind}"), at("copy"), "f32")
            compare(f"{name} in {kind}", at("copy"), said[name][kind])
            if name == "base":
                compare(f"base in {kind}, adapter.gguf", at("copy"), said["adapter"][kind], at("adapter"))
            if kind in ("f16", "bf16"):
                compare(f"{name} in {kind}, inputs in {kind}", at(f"{name}-{kind}"), said[name][kind])

    records = [json.loads(text) for text in open(data)][-int(lines):]
    texts = [f"{record['instruction']}\n{record['output']}" for record in records]
    with Model(at("base-f32")) as model:
        texts = [model.ids(text) for text in texts]
    for kind in TYPES:
        with Model(at(f"merged-{kind}")) as model:
            ours, count = model.perplexity(list(texts))
        quantize(at("merged-f32"), at("copy"), kind)
        with Model(at("copy")) as model:
            theirs, _ = model.perplexity(list(texts))
        off = 100 * (ours / theirs - 1)
        line(f"perplexity of merged {kind}", abs(off) <= 2,
             f"ours {ours:.5f}, llama.cpp's quantizer {theirs:.5f}: {off:+.3f} % on {count} tokens of {len(texts)} texts")


L.llama_log_set(silent, ctypes.c_void_p(0))
L.llama_backend_init()
if sys.argv[1] == "--bases":
    for kept in KEPT:
        quantize(f"{sys.argv[2]}/base-f32.gguf", f"{sys.argv[2]}/base-{kept}.gguf", kept)
else:
    main(*sys.argv[1:])
sys.stdout.flush()
os._exit(0 if good else 1)
