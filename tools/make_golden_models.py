#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes tests/golden/models: tiny random models with the logits that independent implementations give for them.

Softmax families: Hugging Face transformers, f32, eager attention. RWKV families: the recurrences of
RADLADS (arXiv 2505.03005, appendix A) as plain NumPy loops in f64, below. Each directory holds config.json, the
weights, and expected.safetensors with `tokens` [T] and `logits` [T, V].

Needs torch, transformers, safetensors and numpy. Never needed to build or test: the results are in the repository.

    python3 tools/make_golden_models.py [OUTPUT_DIRECTORY]
"""

import json
import pathlib
import sys

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

VOCAB = 32
rng = np.random.default_rng(20250503)


def write_expected(directory, tokens, logits):
    save_file({"tokens": np.asarray(tokens, np.int32), "logits": np.ascontiguousarray(logits, np.float32)},
              directory / "expected.safetensors")


def random_value(name, shape):
    """Large enough that attention is far from uniform and a wrong sign or order shows in the logits."""
    if name.endswith("norm.weight"):
        return 1 + 0.2 * rng.standard_normal(shape)
    if len(shape) == 1:
        return 0.3 * rng.standard_normal(shape)
    return rng.standard_normal(shape) / np.sqrt(shape[-1]) * (2 if "q_proj" in name or "k_proj" in name else 1)


# ---------------------------------------------------------------------------- softmax families, by transformers


def softmax_model(root, name, config, tokens=24, dtype=torch.float32, shard_size="1GB"):
    directory = root / name
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(random_value(key, tuple(parameter.shape))))
        model.to(dtype)
        model.save_pretrained(directory, max_shard_size=shard_size)
        # Read again: half-precision weights, but rotary frequencies and arithmetic in f32.
        model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32,
                                                                  attn_implementation="eager")
        ids = rng.integers(0, VOCAB, tokens)
        logits = model(torch.from_numpy(ids)[None]).logits[0].numpy()
    (directory / "generation_config.json").unlink(missing_ok=True)
    write_expected(directory, ids, logits)


def softmax_models(root):
    small = dict(vocab_size=VOCAB, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
                 num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=False, bos_token_id=1,
                 eos_token_id=2)
    llama, qwen2, qwen3 = transformers.LlamaConfig, transformers.Qwen2Config, transformers.Qwen3Config
    softmax_model(root, "llama", llama(**small, rms_norm_eps=1e-5))
    softmax_model(root, "llama-rope-llama3-sharded",
                  llama(**{**small, "num_hidden_layers": 3, "num_key_value_heads": 2}, rms_norm_eps=1e-5,
                        rope_theta=500000.0,
                        rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                      "high_freq_factor": 4.0, "original_max_position_embeddings": 16}),
                  shard_size="12KB")
    softmax_model(root, "llama-bias-f16",
                  llama(**{**small, "tie_word_embeddings": True}, attention_bias=True, rope_theta=1000.0),
                  dtype=torch.float16)
    softmax_model(root, "qwen2", qwen2(**small, rope_theta=1e6))
    softmax_model(root, "qwen2-tied-bf16", qwen2(**{**small, "tie_word_embeddings": True}, rope_theta=1e6),
                  dtype=torch.bfloat16)
    softmax_model(root, "qwen2-yarn",
                  qwen2(**{**small, "tie_word_embeddings": True}, rope_theta=10000.0,
                        rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}))
    softmax_model(root, "qwen2-window",
                  qwen2(**small, rope_theta=1e6, use_sliding_window=True, sliding_window=5, max_window_layers=1))
    softmax_model(root, "qwen3",
                  qwen3(**{**small, "num_attention_heads": 4, "num_key_value_heads": 2}, head_dim=8, rope_theta=1e6))


# ---------------------------------------------------------------------------- RWKV families, straight from the equations


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def rmsnorm(x, gain, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * gain


def rotate(x, position, theta):
    """x [..., N]: channels (i, i + N/2) turn by position · theta^(-2i/N)."""
    n = x.shape[-1]
    angle = position * theta ** (-2 * np.arange(n // 2) / n)
    a, b = x[..., : n // 2], x[..., n // 2:]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1)


class Layer:
    """One decoder layer of one sequence, a token at a time."""

    def __init__(self, config, index, weights):
        self.c, self.index = config, index
        self.prefix, self.weights = f"model.layers.{index}.", weights
        self.h, self.hk = config["num_attention_heads"], config["num_key_value_heads"]
        self.n = config.get("head_dim") or config["hidden_size"] // self.h
        self.state = np.zeros((self.h, self.n, self.n))
        self.last = np.zeros(config["hidden_size"])
        self.keys, self.values = [], []
        self.position = 0

    def get(self, name):
        key = self.prefix + name
        return self.weights[key].astype(np.float64) if key in self.weights else None

    def mixer_tensor(self, name):
        return self.get("self_attn." + name)

    def linear(self, name, x):
        y = x @ self.mixer_tensor(name + ".weight").T
        bias = self.mixer_tensor(name + ".bias")
        return y if bias is None else y + bias

    def heads(self, name, x, rotated):
        """A projection as [heads, N], normalised per head where the family does, rotated where asked."""
        y = self.linear(name + "_proj", x).reshape(-1, self.n)
        gain = self.mixer_tensor(name + "_norm.weight")
        if gain is not None:
            y = rmsnorm(y, gain, self.c["rms_norm_eps"])
        return rotate(y, self.position, self.c["rope_theta"]) if rotated else y

    def repeat(self, x):
        return np.repeat(x, self.h // self.hk, axis=0)

    def gate(self, x):
        kind = self.c.get("gate_rank_type", 1 if self.c["model_type"] == "rwkv6qwen2" else 2)
        if kind == 0:
            return np.ones(self.h * self.n)
        if kind == 1:
            return sigmoid(x @ self.mixer_tensor("gate.weight").T)
        return sigmoid(x @ self.mixer_tensor("g1")) @ self.mixer_tensor("g2")

    def groupnorm(self, o):
        mean, var = o.mean(-1, keepdims=True), o.var(-1, keepdims=True)
        y = ((o - mean) / np.sqrt(var + self.n * 1e-5)).reshape(-1)
        return y * self.mixer_tensor("ln_x.weight") + self.mixer_tensor("ln_x.bias")

    def rwkv6(self, x):
        t, c = self.mixer_tensor, self.c
        streams = [x] * 5
        if c.get("use_tokenshift", True):
            dx = self.last - x
            u = x + dx * t("time_maa_x").reshape(-1)
            m = np.tanh(u @ t("time_maa_w1")).reshape(5, -1)
            streams = [x + dx * (t("time_maa_" + s).reshape(-1) + m[i] @ t("time_maa_w2")[i])
                       for i, s in enumerate("rkvwg")]
        self.last = x
        xr, xk, xv, xw, xg = streams
        rope = c.get("use_rope", False)
        q, k = self.heads("q", xr, rope), self.repeat(self.heads("k", xk, rope))
        v = self.repeat(self.heads("v", xv, False))
        d = t("time_decay").reshape(-1) + np.tanh(xw @ t("time_decay_w1")) @ t("time_decay_w2")
        w = np.exp(np.maximum(-np.exp(d), -5)).reshape(self.h, self.n)
        if c.get("balance_state", True):
            k = k * (1 - w)
        out = np.empty((self.h, self.n))
        for h in range(self.h):
            self.state[h] = w[h][:, None] * self.state[h] + np.outer(k[h], v[h])  # rows: keys
            out[h] = q[h] @ self.state[h] / np.sqrt(self.n)
        flat = self.groupnorm(out) if c.get("groupnorm_att", False) else out.reshape(-1)
        return self.linear("o_proj", flat * self.gate(xg))

    def rwkv7(self, x, v_first):
        t, c = self.mixer_tensor, self.c
        rope = c.get("use_rope", False)
        r, k = self.heads("q", x, rope), self.repeat(self.heads("k", x, rope))
        v = self.repeat(self.heads("v", x, False))
        shape = (self.h, self.n)
        omega = t("w0").reshape(-1) + np.tanh(x @ t("w1")) @ t("w2")
        w = np.exp(-np.exp(-0.5 - np.log1p(np.exp(-omega)))).reshape(shape)
        a = sigmoid(t("a0").reshape(-1) + (x @ t("a1")) @ t("a2")).reshape(shape)
        if self.index == 0:
            v_first = v
        else:
            mix = sigmoid(t("v0").reshape(-1) + (x @ t("v1")) @ t("v2")).reshape(shape)
            v = v + (v_first - v) * mix
        if c.get("balance_state", True):
            kappa, k = k, k * (1 - w + a)
        else:
            kappa, k = k * t("k_k").reshape(shape), k * (1 + (a - 1) * t("k_a").reshape(shape))
        kappa = kappa / np.linalg.norm(kappa, axis=-1, keepdims=True)
        out = np.empty(shape)
        for h in range(self.h):
            s = self.state[h]  # rows: values
            self.state[h] = s * w[h] - np.outer(s @ kappa[h], a[h] * kappa[h]) + np.outer(v[h], k[h])
            out[h] = self.state[h] @ r[h]
        flat = self.groupnorm(out) if c.get("groupnorm_att", False) else out.reshape(-1) / np.sqrt(self.n)
        return self.linear("o_proj", flat * self.gate(x)), v_first

    def softmax(self, x):
        q = self.heads("q", x, True)
        self.keys.append(self.repeat(self.heads("k", x, True)))
        self.values.append(self.repeat(self.heads("v", x, False)))
        scores = np.einsum("hn,thn->ht", q, np.stack(self.keys)) / np.sqrt(self.n)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        return self.linear("o_proj", np.einsum("ht,thn->hn", p, np.stack(self.values)).reshape(-1))

    def step(self, x, v_first):
        eps = self.c["rms_norm_eps"]
        h = rmsnorm(x, self.get("input_layernorm.weight"), eps)
        if self.index >= self.c["num_hidden_layers"] - self.c.get("num_attention_layers", 0):
            y = self.softmax(h)
        elif self.c["model_type"] == "rwkv6qwen2":
            y = self.rwkv6(h)
        else:
            y, v_first = self.rwkv7(h, v_first)
        x = x + y
        h = rmsnorm(x, self.get("post_attention_layernorm.weight"), eps)
        gate = h @ self.get("mlp.gate_proj.weight").T
        x = x + (gate * sigmoid(gate) * (h @ self.get("mlp.up_proj.weight").T)) @ self.get("mlp.down_proj.weight").T
        self.position += 1
        return x, v_first


def run_rwkv(config, weights, tokens):
    layers = [Layer(config, i, weights) for i in range(config["num_hidden_layers"])]
    logits = []
    for token in tokens:
        x, v_first = weights["model.embed_tokens.weight"][token].astype(np.float64), None
        for layer in layers:
            x, v_first = layer.step(x, v_first)
        x = rmsnorm(x, weights["model.norm.weight"].astype(np.float64), config["rms_norm_eps"])
        logits.append(x @ weights["lm_head.weight"].astype(np.float64).T)
    return np.stack(logits)


def mixer_shapes(c, ranks):
    """Published names and shapes of one RWKV layer's own tensors."""
    d, h = c["hidden_size"], c["num_attention_heads"]
    a = h * (c.get("head_dim") or d // h)
    six = c["model_type"] == "rwkv6qwen2"
    shapes = {}
    if six:
        if c.get("use_tokenshift", True):
            shapes.update({"time_maa_" + s: (1, 1, d) for s in "xrkvwg"})
            shapes.update({"time_maa_w1": (d, 5 * ranks["shift"]), "time_maa_w2": (5, ranks["shift"], d)})
        shapes.update({"time_decay": (1, 1, a), "time_decay_w1": (d, ranks["w"]), "time_decay_w2": (ranks["w"], a)})
    else:
        for s in "wav":
            shapes.update({s + "0": (1, 1, a), s + "1": (d, ranks[s]), s + "2": (ranks[s], a)})
        shapes.update({"k_k": (1, 1, a), "k_a": (1, 1, a), "r_k": (h, a // h)})
    gate = c.get("gate_rank_type", 1 if six else 2)
    if gate == 1:
        shapes["gate.weight"] = (a, d)
    if gate == 2:
        shapes.update({"g1": (d, ranks["g"]), "g2": (ranks["g"], a)})
    if c.get("groupnorm_att", False):
        shapes.update({"ln_x.weight": (a,), "ln_x.bias": (a,)})
    return shapes


def rwkv_model(root, name, model_type, tokens=24, ranks=None, **keys):
    c = dict(model_type=model_type, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
             num_key_value_heads=1, vocab_size=VOCAB, max_position_embeddings=128, rms_norm_eps=1e-6, rope_theta=1e4,
             tie_word_embeddings=False, hidden_act="silu", attention_bias=model_type != "qwen3rwkv7",
             attention_output_bias=False, torch_dtype="float32")
    c.update(keys)
    ranks = ranks or dict(shift=3, w=5, a=4, v=3, g=6)
    d, f, layers = c["hidden_size"], c["intermediate_size"], c["num_hidden_layers"]
    n = c.get("head_dim") or d // c["num_attention_heads"]
    a, w = c["num_attention_heads"] * n, c["num_key_value_heads"] * n
    shapes = {"model.embed_tokens.weight": (VOCAB, d), "model.norm.weight": (d,), "lm_head.weight": (VOCAB, d)}
    for i in range(layers):
        p = f"model.layers.{i}."
        shapes.update({p + "input_layernorm.weight": (d,), p + "post_attention_layernorm.weight": (d,),
                       p + "mlp.gate_proj.weight": (f, d), p + "mlp.up_proj.weight": (f, d),
                       p + "mlp.down_proj.weight": (d, f)})
        p += "self_attn."
        shapes.update({p + "q_proj.weight": (a, d), p + "k_proj.weight": (w, d), p + "v_proj.weight": (w, d),
                       p + "o_proj.weight": (d, a)})
        if c["attention_bias"]:
            shapes.update({p + "q_proj.bias": (a,), p + "k_proj.bias": (w,), p + "v_proj.bias": (w,)})
        if model_type == "qwen3rwkv7":
            shapes.update({p + "q_norm.weight": (n,), p + "k_norm.weight": (n,)})
        if i < layers - c.get("num_attention_layers", 0):
            shapes.update({p + key: shape for key, shape in mixer_shapes(c, ranks).items()})
    weights = {key: random_value(key, shape).astype(np.float32) for key, shape in shapes.items()}
    for key, value in weights.items():
        if key.endswith("time_decay"):  # from slow to beyond the clamp at exp(-5)
            value[...] = np.linspace(-4, 2.5, value.size).reshape(value.shape)
        if model_type != "rwkv6qwen2" and ".layers.0." in key and key.endswith((".v0", ".v1", ".v2", ".r_k")):
            value[...] = np.nan  # in published files, but never read: whatever was in memory
    ids = rng.integers(0, VOCAB, tokens)
    directory = root / name
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(c, indent=2) + "\n")
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    write_expected(directory, ids, run_rwkv(c, weights, ids))


def rwkv_models(root):
    wide = dict(num_attention_heads=3, head_dim=8)  # attention wider than the hidden size
    rwkv_model(root, "rwkv6", "rwkv6qwen2", tokens=48)  # as QRWKV6-32B: none of the later keys
    rwkv_model(root, "rwkv6-rope-groupnorm", "rwkv6qwen2", use_tokenshift=False, use_rope=True, balance_state=False,
               groupnorm_att=True, gate_rank_type=2, **wide)
    rwkv_model(root, "rwkv6-no-gate", "rwkv6qwen2", gate_rank_type=0, attention_bias=False, lora_rank_decay=None)
    rwkv_model(root, "rwkv7", "rwkv7qwen2", tokens=48, use_rope=True)
    rwkv_model(root, "rwkv7-groupnorm", "rwkv7qwen2", balance_state=False, groupnorm_att=True, gate_rank_type=1)
    rwkv_model(root, "rwkv7-groupnorm-balanced", "rwkv7qwen2", groupnorm_att=True, gate_rank_type=0, use_rope=True,
               **wide)
    rwkv_model(root, "rwkv7-hybrid", "rwkv7qwen2", use_rope=True, num_hidden_layers=3, num_attention_layers=1,
               balance_state=False, groupnorm_att=False)
    rwkv_model(root, "qwen3rwkv7", "qwen3rwkv7", use_rope=True, num_attention_heads=4, num_key_value_heads=2,
               head_dim=8)


if __name__ == "__main__":
    output = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else
                          pathlib.Path(__file__).parent.parent / "tests" / "golden" / "models")
    torch.set_num_threads(1)
    softmax_models(output)
    rwkv_models(output)
