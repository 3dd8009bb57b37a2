#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""GGUF against Python's `gguf` package (pip install gguf numpy; for check also safetensors).

make FILE           writes tests/golden/gguf/python.gguf: every kind of metadata, and for every supported block type a
                    tensor of random blocks beside the values the package dequantises it to (NAME.expected).
check FILE OTHER    compares every tensor of two GGUF files after dequantisation by the package; prints the worst difference.
"""
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

TYPES = [T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q4_K, T.Q5_K, T.Q6_K]
F16_FIELDS = {T.Q8_0: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q4_K: [0, 2], T.Q5_K: [0, 2],
              T.Q6_K: [208]}  # byte offsets of the scales in a block


def random_blocks(rng, kind, rows, cols):
    """Random bytes with scales of an ordinary size: every code and every bit of the packed scales occurs."""
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (rows, cols // elements, size), dtype=np.uint8)
    for at in F16_FIELDS[kind]:
        scales = rng.normal(0, 0.05, raw.shape[:2]).astype(np.float16)
        raw[:, :, at:at + 2] = scales[..., None].view(np.uint8)
    return raw.reshape(rows, -1)


def make(path):
    rng = np.random.default_rng(20260901)
    w = gguf.GGUFWriter(path, "llama")
    w.add_uint8("t.u8", 200)
    w.add_int8("t.i8", -100)
    w.add_uint16("t.u16", 60000)
    w.add_int16("t.i16", -30000)
    w.add_uint32("t.u32", 4000000000)
    w.add_int32("t.i32", -2000000000)
    w.add_uint64("t.u64", 1 << 40)
    w.add_int64("t.i64", -(1 << 40))
    w.add_float32("t.f32", 1e-6)
    w.add_float64("t.f64", 0.1)
    w.add_bool("t.true", True)
    w.add_bool("t.false", False)
    w.add_string("t.text", "na\u00efve \U0001f600")
    w.add_array("t.texts", ["a", "", "caf\u00e9"])
    w.add_array("t.integers", [1, -2, 3])
    w.add_array("t.numbers", [0.5, -1.25])
    w.add_tensor("f32", rng.normal(0, 1, (3, 5)).astype(np.float32))
    w.add_tensor("f16", rng.normal(0, 1, (3, 5)).astype(np.float16))
    bf16 = rng.normal(0, 1, (2, 4)).astype(np.float32)
    w.add_tensor("bf16", gguf.quants.quantize(bf16, T.BF16), raw_dtype=T.BF16)
    w.add_tensor("bf16.expected", gguf.quants.dequantize(gguf.quants.quantize(bf16, T.BF16), T.BF16))
    for kind in TYPES:
        raw = random_blocks(rng, kind, 2, 512)
        w.add_tensor(kind.name, raw, raw_dtype=kind)
        w.add_tensor(kind.name + ".expected", gguf.quants.dequantize(raw, kind).astype(np.float32))
    values = rng.normal(0, 0.1, (2, 64)).astype(np.float32)
    w.add_tensor("values", values)
    for kind in (T.F16, T.BF16, T.Q8_0, T.Q4_0):
        w.add_tensor("values." + kind.name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def tensors(path):
    return {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
            for t in gguf.GGUFReader(path).tensors}


def check(path, other):
    a, b = tensors(path), tensors(other)
    if set(a) != set(b):
        sys.exit(f"only in one file: {sorted(set(a) ^ set(b))}")
    worst = max((float(np.abs(a[n] - b[n]).max()), n) for n in a)
    different = sum(not np.array_equal(a[n], b[n]) for n in a)
    print(f"{len(a)} tensors, {different} differ, by at most {worst[0]:.3g} ({worst[1]})")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "make":
        make(sys.argv[2])
    elif len(sys.argv) == 4 and sys.argv[1] == "check":
        check(sys.argv[2], sys.argv[3])
    else:
        sys.exit(__doc__)
