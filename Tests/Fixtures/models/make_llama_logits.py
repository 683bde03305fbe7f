#!/usr/bin/env python3
"""What llama.cpp computes from the files of make_gguf_families.py where transformers computes something else from the
folder: ../families/NAME/llama_cpp.safetensors, `long_logits` as in golden.safetensors.

usage: make_llama_logits.py [NAME...]

Needs: llama-cpp-python==0.3.36 gguf numpy safetensors (PyPI). gpt-oss says truncate = false, which GGUF files cannot say,
and llama.cpp truncates. The files have no tokenizer, so one that has none is named in a copy.
"""
import pathlib
import sys
import tempfile

import gguf
import llama_cpp
import numpy
from safetensors.numpy import save_file

families = pathlib.Path(__file__).resolve().parent.parent / "families"
LONG_IDS = [(11 * i * i + 5 * i + 3) % 128 for i in range(300)]
LONG_ROWS = [0, 16, 39, 40, 63, 64, 65, 127, 200, 299]


def copy(source, target):
    reader = gguf.GGUFReader(source)
    architecture = reader.get_field("general.architecture").contents()
    writer = gguf.GGUFWriter(target, architecture)
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, inner)
    writer.add_string("tokenizer.ggml.model", "no_vocab")
    writer.add_uint32(architecture + ".vocab_size", 128)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_shape=list(tensor.data.shape), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def logits(path):
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = 512
    options.flash_attn_type = options.type_k = options.type_v = 0  # f32 keys and values
    context = llama_cpp.llama_init_from_model(model, options)
    batch = llama_cpp.llama_batch_init(len(LONG_IDS), 0, 1)
    batch.n_tokens = len(LONG_IDS)
    for i, token in enumerate(LONG_IDS):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
        batch.seq_id[i][0] = 0
    assert llama_cpp.llama_decode(context, batch) == 0
    rows = [llama_cpp.llama_get_logits_ith(context, row) for row in LONG_ROWS]
    return numpy.stack([numpy.ctypeslib.as_array(row, shape=(128,)).copy() for row in rows])


llama_cpp.llama_backend_init()
for name in sys.argv[1:] or ["gpt_oss", "gpt_oss_mxfp4"]:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "model.gguf")
        copy(families / name / "model.gguf", path)
        save_file({"long_logits": logits(path)}, families / name / "llama_cpp.safetensors")
