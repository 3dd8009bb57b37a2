#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Time, memory and money of converting Qwen2.5 shapes to RAD-RWKV7 on GPUs, from formulas: the tables of docs/scale.md.

    tools/scale_costs.py [recipes/radlads.json]        prints the tables
    tools/scale_costs.py --check docs/scale.md         fails where the page's tables are not what this prints
    tools/scale_costs.py --shape config.json           parameters and scratch of one shape, to hold against a --dry-run

Nothing here is measured. Rates and prices are the assumptions below; operations, bytes and collectives follow src/distill.
"""
import json
import pathlib
import sys

SLOW, FAST = 180e12, 400e12  # effective operations a second of one GPU: 18 % and 40 % of 989 Tflop/s
PRICE = 2, 4  # dollars an hour of one GPU
LINK = {1: None, 8: 300e9, 64: 40e9}  # bytes a second each GPU sends in a collective: NVLink; 400 Gbit/s between machines
GIB = 2**30
SHAPES = {  # config.json of Qwen/Qwen2.5-{7B,32B,72B}
    "7B": dict(hidden_size=3584, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4, intermediate_size=18944,
               vocab_size=152064, tie_word_embeddings=False),
    "32B": dict(hidden_size=5120, num_hidden_layers=64, num_attention_heads=40, num_key_value_heads=8, intermediate_size=27648,
                vocab_size=152064, tie_word_embeddings=False),
    "72B": dict(hidden_size=8192, num_hidden_layers=80, num_attention_heads=64, num_key_value_heads=8, intermediate_size=29568,
                vocab_size=152064, tie_word_embeddings=False),
}


class Shape:
    """Elements of teacher (Qwen2) and student (rwkv7qwen2): `*_products` are those of matrices that a token passes."""

    def __init__(self, c):
        D, L, I, V = c["hidden_size"], c["num_hidden_layers"], c["intermediate_size"], c["vocab_size"]
        heads = c["num_attention_heads"]
        N = c.get("head_dim") or D // heads
        A, K = heads * N, c["num_key_value_heads"] * N
        self.D, self.L, self.I, self.V, self.A, self.K, self.N = D, L, I, V, A, K, N
        rank = lambda f, p: max(32, int(f * D**p / 32 + 0.5) * 32)
        decay, rate, mix, gate = rank(1.8, 0.5), rank(1.8, 0.5), rank(1.3, 0.5), rank(0.6, 0.8)
        self.ranks = decay + rate + mix + gate
        attention = 2 * D * A + 2 * D * K
        biases = A + 2 * K
        low_rank = L * self.ranks * (D + A) - mix * (D + A)  # the first layer has no value mix
        self.mixer_products = L * attention + low_rank
        self.mixers = self.mixer_products + L * (biases + 2 * A) + (L - 1) * A
        self.mlp = L * 3 * D * I
        self.norms = (2 * L + 1) * D
        tables = V * D * (1 if c.get("tie_word_embeddings") else 2)
        self.tables, self.head = tables, V * D
        self.teacher_layers = L * (attention + biases + 2 * D) + self.mlp
        self.teacher = self.teacher_layers + D + tables
        self.teacher_products = L * attention + self.mlp + V * D
        self.student = self.mixers + self.mlp + self.norms + tables
        self.student_products = self.mixer_products + self.mlp + V * D

    def operations(self, stage, mixers_only):
        """A training token's, a multiply-add as two. First as `flops_per_token` counts (6 an element that trains, 2 one
        that runs forward alone), then what comes on top: recomputation, and attention and WKV, which no weight holds."""
        P, M, T = self.student_products, self.mixer_products, stage["context"]
        teacher = 2 * self.teacher_products
        attention = 2 * T * self.A * self.L  # causal: half of queries times keys and weights times values
        wkv = 3 * 8 * self.A * self.N * self.L  # state read, removal, addition, decay; about twice that on the way back
        if stage["loss"] == "align":
            counted, more = 6 * M + teacher - 2 * self.head, attention + wkv
        else:
            frozen = P - M if mixers_only else 0
            counted = 6 * P - 2 * frozen  # frozen matrices have no gradient of their own
            more = wkv + (2 * (P - self.head) if stage.get("recompute") else 0)
            if stage["loss"] == "kl":
                counted, more = counted + teacher, more + attention
        return counted + more

    def scratch(self, stage, windows):
        """Bytes of a lane's arena in a KL or cross-entropy step of so many windows at once, with recompute; f32."""
        rows = windows * stage["context"]
        D, A, K, I = self.D, self.A, self.K, self.I
        held = (self.L + 3) * D + 2 * A + self.N  # layer inputs, gradient, teacher's hidden rows; v_first twice, angles
        mixer = 3 * D + 14 * A + 2 * K + self.ranks
        reverse = max(4 * D + 6 * I, 11 * A + 2 * K + self.ranks)
        return 4 * rows * (held + mixer + reverse)


def memory(s, ranks, scratch, mixers_only, sharded):
    own = s.mixers if mixers_only else s.student
    frozen = 2 * s.teacher
    if sharded:
        frozen = 2 * (s.teacher_layers / ranks + 2 * s.teacher_layers / s.L + s.teacher - s.teacher_layers)
    return dict(weights=4 * own, gradients=4 * own, moments=8 * own / ranks, frozen=frozen, scratch=scratch)


def run(s, stages, ranks, mixers_only, sharded):
    """Seconds of computing at 1 operation a second, seconds and bytes of collectives a rank, of all stages."""
    work = seconds = volume = 0
    for stage in stages:
        batch = max(stage["batch"], ranks)  # fewer windows than ranks are refused
        steps = max(1, int(stage["tokens"] / (batch * stage["context"])))
        windows = -(-batch // ranks)  # of the rank that has most
        work += steps * windows * stage["context"] * s.operations(stage, mixers_only)
        if ranks == 1:
            continue
        train = s.mixers if mixers_only or stage["loss"] == "align" else s.student
        sent = 2 * 4 * train
        if sharded:
            passes = {"align": 1, "kl": 3, "cross_entropy": 2}[stage["loss"]]
            groups = -(-windows // stage.get("windows_at_once", windows))
            sent += passes * groups * 2 * s.teacher_layers
        sent *= steps * (ranks - 1) / ranks
        volume += sent
        seconds += sent / LINK[ranks]
    return work, seconds, volume


def number(x):
    return f"{x:.3g}" if x < 1000 else f"{x:,.0f}"


def tables(recipe):
    stages = recipe["stages"]
    out = ["| | student, 10⁹ | of it mixers | " + " | ".join("stage " + s["name"] for s in stages) + " | stage 2, mixers only |",
           "|---|---|---|" + "---|" * (len(stages) + 1)]
    for name, c in SHAPES.items():
        s = Shape(c)
        row = [number(s.student / 1e9), number(s.mixers / 1e9)] + [number(s.operations(t, False) / 1e9) for t in stages]
        out.append(f"| {name} | " + " | ".join(row + [number(s.operations(stages[1], True) / 1e9)]) + " |")
    out += ["", "| model | GPUs | trains | weights | gradients | moments | teacher | scratch | in all, GiB each | hours | collectives, h | GB sent by each | $ |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for name, c in SHAPES.items():
        s = Shape(c)
        for ranks in LINK:
            for label, mixers_only, sharded in (("all", False, False), ("mixers", True, False), ("mixers, frozen sharded", True, True)):
                if sharded and ranks == 1:
                    continue
                scratch = max(s.scratch(t, min(t.get("windows_at_once", 1), -(-t["batch"] // ranks))) for t in stages[1:])
                m = memory(s, ranks, scratch, mixers_only, sharded)
                work, seconds, volume = run(s, stages, ranks, mixers_only, sharded)
                hours = [work / rate / 3600 + seconds / 3600 for rate in (FAST, SLOW)]
                money = [hours[0] * ranks * PRICE[0], hours[1] * ranks * PRICE[1]]
                parts = " | ".join(number(m[k] / GIB) for k in ("weights", "gradients", "moments", "frozen", "scratch"))
                out.append(f"| {name} | {ranks} | {label} | {parts} | {number(sum(m.values()) / GIB)} | "
                           f"{number(hours[0])} – {number(hours[1])} | {number(seconds / 3600)} | {number(volume / 1e9)} | "
                           f"{number(money[0])} – {number(money[1])} |")
    return "\n".join(out)


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    args = sys.argv[1:]
    if args[:1] == ["--shape"]:
        s = Shape(json.loads(pathlib.Path(args[1]).read_text()))
        print(f"student {s.student} parameters, mixers {s.mixers}, teacher {s.teacher}")
        for windows, context in ((1, 128), (2, 128), (4, 512)):
            print(f"scratch of {windows} x {context}, recompute: {s.scratch({'context': context}, windows) / 2**20:.1f} MiB")
        return 0
    check = args[1] if args[:1] == ["--check"] else None
    text = tables(json.loads(pathlib.Path(args[0] if args and not check else root / "recipes/radlads.json").read_text()))
    if check is None:
        print(text)
    elif text not in pathlib.Path(check).read_text():
        print(f"{check}: its tables are not those of tools/scale_costs.py; put in what it prints", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
