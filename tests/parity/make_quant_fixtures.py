#!/usr/bin/env python3
"""Make tests/unit/model/quant_fixtures.bin: blocks of every GGUF type and the floats that the
gguf Python package (0.17 or later) unpacks them to. Run from the repository root; needs gguf and numpy.

The file is a sequence of records: u32 type, u32 elements, u32 bytes, the bytes, the floats
(f32, little-endian). Blocks are random bits, with scales kept finite and of a real model's size,
the last block with scales of zero and the largest fields.
"""
import struct
import numpy as np
from gguf import GGMLQuantizationType as T, GGML_QUANT_SIZES
from gguf.quants import dequantize

HALVES = {  # where the half-precision scales of a block lie
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82],
    T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.F16: [0], T.BF16: [], T.F32: [],
}

rng = np.random.default_rng(20240611)
with open("tests/unit/model/quant_fixtures.bin", "wb") as out:
    for t, halves in HALVES.items():
        block, size = GGML_QUANT_SIZES[t]
        n = 64 if block == 1 else 4 if block == 32 else 3
        raw = rng.integers(0, 256, (n, size), dtype=np.uint8)
        if block == 1:
            values = rng.normal(0, 0.1, n).astype(np.float32)
            if t == T.F32:
                raw = values.view(np.uint8).reshape(n, 4)
            elif t == T.BF16:
                raw = (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8).reshape(n, 2)
            else:
                values[:4] = [0.0, -0.0, 6e-8, 65504.0]
                raw = values.astype(np.float16).view(np.uint8).reshape(n, 2)
        else:
            for at in halves:
                raw[:, at:at + 2] = rng.normal(0, 0.02, n).astype(np.float16).view(np.uint8).reshape(n, 2)
            raw[-1, :] = 255
            for i, at in enumerate(halves):
                raw[-1, at:at + 2] = np.frombuffer(np.float16(0.5 if i == 0 else 6e-8).tobytes(), np.uint8)
        values = dequantize(raw.reshape(-1), t).astype("<f4").reshape(-1)
        assert values.size == n * block and np.isfinite(values).all()
        out.write(struct.pack("<III", int(t), values.size, raw.size) + raw.tobytes() + values.tobytes())
