"""Writes encoded.f32, 24 rows of 256 floats, and encoded.blocks, the same in each block format that is written, as
ggml_quantize_chunk of ggml 0.25.3 makes them: Q8_0, Q4_0, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K, then F16 and BF16 by torch.

The library is ggml.c and ggml-quants.c compiled with -O2 -ffp-contract=off, since compilers that fuse products and sums
round a few elements otherwise. Made with Python 3.11, numpy 2.4.6, torch 2.13.0. Run: python make_encoded.py LIBRARY"""
import ctypes
import sys

import numpy as np
import torch

library = ctypes.CDLL(sys.argv[1])
library.ggml_quantize_chunk.restype = ctypes.c_size_t
rng = np.random.default_rng(5)
rows = (rng.standard_normal((24, 256)) * 0.05).astype(np.float32)
rows[1] = 0
rows[2] = 0.25
rows[3] = np.abs(rows[3])
rows[4] = -np.abs(rows[4])
rows[5, 7] = 40  # an outlier
rows[6, 32:64] = 0  # an empty part
rows[7, 64:96] = 1e-3
rows[8] *= 1e-6  # scales that are subnormal in f16
rows[9] *= 1e-18  # nothing for Q6_K
rows[10] = np.round(rows[10] * 64) / 64  # ties
rows[11] = rng.laplace(size=256) * 0.02
rows[12:16] = rng.uniform(-1, 1, (4, 256))
rows[16:] = torch.from_numpy(rows[16:]).bfloat16().float().numpy()
rows.astype("<f4").tofile("encoded.f32")
sizes = {8: 34 / 32, 2: 18 / 32, 6: 22 / 32, 7: 24 / 32, 12: 144 / 256, 13: 176 / 256, 14: 210 / 256}
with open("encoded.blocks", "wb") as file:
    for kind, size in sizes.items():
        library.ggml_quantize_init(kind)
        out = ctypes.create_string_buffer(int(rows.size * size))
        source = rows.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        used = library.ggml_quantize_chunk(
            kind, source, out, ctypes.c_int64(0), ctypes.c_int64(len(rows)), ctypes.c_int64(256), None)
        assert used == len(out), (kind, used, len(out))
        file.write(out.raw)
    values = torch.from_numpy(rows)
    file.write(values.half().numpy().tobytes())
    file.write(values.bfloat16().view(torch.int16).numpy().tobytes())
