#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Logits of one GGUF file by Qwerky and by llama.cpp (needs numpy, safetensors and tools/llama_cpp_logits.cc, built).

compare_llama_cpp.py QWERKY LLAMA_CPP_LOGITS MODEL.gguf [TOKENS]

Four comparisons on TOKENS (400) random ids:
  both programs on the file, ours by its reference backend, which rounds no activations;
  both programs on the values of the file: the file's weights, dequantised and written as F32;
  llama.cpp on the file and on those values: what its rounding of activations to the weights' type costs alone;
  Qwerky on the file and on those values: what ours costs.
Where the second is f32 rounding and the first equals the third, the programs compute the same function of the file.
"""
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file


def main(qwerky, peer, model, count=400):
    with tempfile.TemporaryDirectory() as scratch:
        values = f"{scratch}/values.gguf"
        subprocess.run([qwerky, "export", model, "--gguf", "--type", "f32", "--out", values], check=True,
                       stdout=subprocess.DEVNULL)
        vocabulary = run_qwerky(qwerky, values, [0], scratch).shape[1]
        ids = np.random.default_rng(1).integers(3, vocabulary - 1, int(count)).tolist()
        ours, fast = run_qwerky(qwerky, model, ids, scratch, "reference"), run_qwerky(qwerky, model, ids, scratch)
        fast_exact = run_qwerky(qwerky, values, ids, scratch)
        theirs, exact = run_peer(peer, model, ids, scratch), run_peer(peer, values, ids, scratch)
        report("qwerky, llama.cpp on the file", ours, theirs)
        report("qwerky, llama.cpp on its values as F32", fast_exact, exact)
        report("llama.cpp on the values, on the file", exact, theirs)
        report("qwerky on the values, on the file", fast_exact, fast)


def joined(ids):
    return ",".join(map(str, ids))


def run_qwerky(qwerky, model, ids, scratch, backend="auto"):
    out = f"{scratch}/ours.safetensors"
    subprocess.run([qwerky, "logits", model, "--tokens", joined(ids), "--precision", "f32", "--backend", backend,
                    "--out", out], check=True, stdout=subprocess.DEVNULL)
    return load_file(out)["logits"]


def run_peer(peer, model, ids, scratch):
    out = f"{scratch}/theirs.f32"
    subprocess.run([peer, model, out, joined(ids)], check=True)
    return np.fromfile(out, np.float32).reshape(len(ids), -1)


def log_probabilities(logits):
    x = logits.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def report(name, a, b):
    p, q = log_probabilities(b), log_probabilities(a)
    kl = (np.exp(p) * (p - q)).sum(-1)
    print(f"{name:40s} max |d| {np.abs(a - b).max():.2e}, rms {np.sqrt(((a - b) ** 2).mean()):.2e} "
          f"(logits' std {b.std():.2f}); KL {kl.mean():.2e}; same top token {(a.argmax(-1) == b.argmax(-1)).mean():.4f}")


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    main(*sys.argv[1:])
