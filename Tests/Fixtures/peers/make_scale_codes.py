"""Prints the SHA-256 of what bitsandbytes' CPU kernels give for the scales in GoldenHashTests.

Written with torch 2.13.0 and bitsandbytes 0.50.2.
"""
import hashlib

import torch
from bitsandbytes import functional


def digest(tensor):
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


k = torch.arange(100003, dtype=torch.int64)
scales = ((k * 2654435761) % (1 << 24)).float() / (1 << 24) * 3 - 1
scales[1280:1536] = 0
codes, maxima = torch.ops.bitsandbytes.quantize_blockwise(scales, functional.create_dynamic_map(), 256)
print("scales", digest(codes), digest(maxima))

# Multiples of 1/4096 whose maxima have a sum that f32 holds exactly, so that the mean does not depend on its order. Four
# of the 512 codes are not the nearest.
k = torch.arange(1 << 15, dtype=torch.int64)
weights = (((k * 2654435761) % 31 - 15) * (k // 64 * 40703 % 2039 + 1)).float() / 4096
_, state = functional.quantize_4bit(weights.reshape(512, 64), blocksize=64, quant_type="nf4", compress_statistics=True)
print("weights", digest(state.absmax), digest(state.state2.absmax), state.offset.item())
