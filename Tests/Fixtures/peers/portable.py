"""A's values that depend on the module's name alone: LoRAInitialization.portable in NumPy."""
import math

import numpy as np
import torch


def fnv1a64(s):
    h = 0xCBF29CE484222325
    for b in s.encode():
        h = ((h ^ b) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def portable(name, rows, cols):
    with np.errstate(over="ignore"):
        z = np.uint64(fnv1a64(name)) + (np.arange(rows * cols, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    u = (z >> np.uint64(40)).astype(np.float32) * np.float32(2.0 ** -24)
    v = (np.float32(2) * u - np.float32(1)) * np.float32(1.0 / math.sqrt(cols))
    return torch.from_numpy(v.reshape(rows, cols))
