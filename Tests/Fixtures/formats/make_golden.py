"""Writes types.gguf (one tensor of each supported type, random blocks with sane scales, plus metadata of every
value type) and types.f32 (their values by gguf's own dequantizer, in tensor order, little-endian f32).
Made with Python 3.11, gguf 0.19.0, numpy 2.4.6. Run: python make_golden.py, in this folder."""
import numpy as np, gguf
from gguf import GGMLQuantizationType as T, quants
rng = np.random.default_rng(7)
w = gguf.GGUFWriter("types.gguf", "llama")
w.add_uint8("t.u8", 200); w.add_int8("t.i8", -100); w.add_uint16("t.u16", 60000); w.add_int16("t.i16", -30000)
w.add_uint32("t.u32", 4000000000); w.add_int32("t.i32", -2000000000); w.add_float32("t.f32", 1e-5)
w.add_uint64("t.u64", 2**63 + 1); w.add_int64("t.i64", -2**62); w.add_float64("t.f64", 0.1)
w.add_bool("t.bool", True); w.add_string("t.string", "h\u00e9llo"); w.add_array("t.strings", ["a", "", "\u212b"])
w.add_array("t.ints", [1, -2, 3]); w.add_array("t.floats", [0.5, 1.5])
halves = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0], T.MXFP4: []}
golden = []
rows, cols = 3, 512
for t in [T.F32, T.F16, T.BF16, *halves]:
  if t == T.F32: raw = rng.standard_normal((rows, cols)).astype(np.float32)
  elif t == T.F16:
    raw = rng.standard_normal((rows, cols)).astype(np.float16)
    raw[0, :6] = [0, -0.0, 6e-8, 65504, np.inf, -3e-5]
  elif t == T.BF16: raw = (rng.standard_normal((rows, cols)).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
  else:
    block, size = gguf.GGML_QUANT_SIZES[t]
    raw = rng.integers(0, 256, (rows * cols // block, size), dtype=np.uint8)
    for at in halves[t]:
      raw[:, at:at + 2] = (rng.standard_normal((len(raw), 1)) * 0.01).astype(np.float16).view(np.uint8)
    # Exponents from zero, which is a subnormal scale, to about one.
    if t == T.MXFP4: raw[:, 0] = np.concatenate([[0, 1, 2], rng.integers(100, 130, len(raw) - 3)])
    raw = raw.reshape(rows, -1)
  golden.append(raw.astype(np.float32) if t in (T.F32, T.F16) else quants.dequantize(raw, t))
  assert golden[-1].shape == (rows, cols), (t, golden[-1].shape)
  w.add_tensor("x." + t.name, raw, raw_dtype=t)
w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
np.concatenate(golden).astype("<f4").tofile("types.f32")
