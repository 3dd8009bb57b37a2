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
        """Bytes of a lane's arena for so many windows at once, with recompute; f32. Stage 1 holds no layer inputs."""
        rows = windows * stage["context"]
        D, A, K, I = self.D, self.A, self.K, self.I
        mixer = 3 * D + 14 * A + 2 * K + self.ranks
        if stage.get("loss") == "align":
            held, reverse = 6 * D + 2 * A + self.N, 11 * A + 2 * K + self.ranks
        else:
            held = (self.L + 3) * D + 2 * A + self.N  # layer inputs, gradient, teacher's hidden rows; v_first twice, angles
            reverse = max(4 * D + 6 * I, 11 * A + 2 * K + self.ranks)
        return 4 * rows * (held + mixer + reverse)


# What trains in stages 2 and 3, --teacher-memory and --gradient-memory.
MODES = (("all", "whole", "whole"), ("all", "whole", "ranks"), ("mixers", "whole", "whole"), ("mixers", "ranks", "ranks"))


def trained(s, mixers_only):
    """Elements that train, and those of them that products alone read."""
    return (s.mixers, s.mixer_products) if mixers_only else (s.student, s.student_products)


def memory(s, ranks, scratch, mode):
    own, products = trained(s, mode[0] == "mixers")
    weights = 4 * own if ranks == 1 else 2 * products + 4 * (own - products) + 4 * own / ranks
    gradients = 4 * own
    if mode[2] == "ranks":  # what a rank owns, what is no matrix, and the largest of a layer and the head
        largest = s.mixer_products / s.L if mode[0] == "mixers" else max((s.mixer_products + s.mlp) / s.L, s.head)
        gradients = 4 * own / ranks + 4 * (own - products) + 4 * largest
    held = {"whole": s.teacher, "layers": 2 * s.teacher_layers / s.L + s.tables,
            "ranks": s.teacher_layers / ranks + 2 * s.teacher_layers / s.L + s.tables}
    return dict(weights=weights, gradients=gradients, moments=8 * own / ranks, teacher=2 * held[mode[1]], scratch=scratch)


def run(s, stages, ranks, mode):
    """Operations of the rank that has most, seconds and bytes of its collectives, of all stages."""
    mixers_only = mode[0] == "mixers"
    work = seconds = volume = 0
    for stage in stages:
        batch = max(stage["batch"], ranks)  # fewer windows than ranks are refused
        steps = max(1, int(stage["tokens"] / (batch * stage["context"])))
        windows = -(-batch // ranks)  # of the rank that has most
        work += steps * windows * stage["context"] * s.operations(stage, mixers_only)
        if ranks == 1:
            continue
        train, products = trained(s, mixers_only or stage["loss"] == "align")
        groups = -(-windows // stage.get("windows_at_once", windows))
        sent = 8 * (train - products) + (4 * (groups if mode[2] == "ranks" else 1) + 2) * products
        if mode[1] == "ranks":
            passes = {"align": 1, "kl": 3, "cross_entropy": 2}[stage["loss"]]
            sent += passes * groups * 2 * s.teacher_layers
        sent *= steps * (ranks - 1) / ranks
        volume += sent
        seconds += sent / LINK[ranks]
    return work, seconds, volume


def number(x):
    return f"{x:.3g}" if x < 1000 else f"{x:,.0f}"


def span(low, high):
    return f"{number(low)} – {number(high)}"


def table(head, rows):
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head)] + rows)


def tables(recipe):
    stages = recipe["stages"]
    operations, bytes_held, times = [], [], []
    for name, c in SHAPES.items():
        s = Shape(c)
        operations.append([name, number(s.student / 1e9), number(s.mixers / 1e9)] +
                          [number(s.operations(t, False) / 1e9) for t in stages] +
                          [number(s.operations(t, True) / 1e9) for t in stages[1:]])
        for ranks in LINK:
            for mode in MODES:
                if "ranks" in mode and ranks == 1:
                    continue
                at_once = lambda t: min(t.get("windows_at_once", t["batch"]), -(-t["batch"] // ranks))
                m = memory(s, ranks, max(s.scratch(t, at_once(t)) for t in stages), mode)
                where = [name, str(ranks), *mode]
                bytes_held.append(where + [number(x / GIB) for x in m.values()] + [number(sum(m.values()) / GIB)])
                work, seconds, volume = run(s, stages, ranks, mode)
                fast, slow = ((work / rate + seconds) / 3600 for rate in (FAST, SLOW))
                times.append(where + [span(fast, slow), number(seconds / 3600), number(volume / 1e12),
                                      span(fast * ranks * PRICE[0], slow * ranks * PRICE[1])])
    kinds = ["", "GPUs", "trains", "`--teacher-memory`", "`--gradient-memory`"]
    names = [f"stage {t['name'].split()[0]}" for t in stages]
    out = [table(["10⁹", "parameters", "of mixers"] + names + [n + ", mixers alone" for n in names[1:]], operations),
           table(kinds + ["weights", "gradients", "moments", "teacher", "scratch", "in all"], bytes_held),
           table(kinds + ["hours", "of them collectives", "TB sent by each", "dollars"], times)]
    stage, rows = dict(stages[0], windows_at_once=16), []
    for name, c in SHAPES.items():
        s = Shape(c)
        m = memory(s, 1, s.scratch(stage, stage["windows_at_once"]), ("mixers", "layers", "whole"))
        host = m.pop("moments")
        read = 2 * s.teacher_layers * stage["tokens"] / (stage["windows_at_once"] * stage["context"])
        work = stage["tokens"] * s.operations(stage, True)
        rows.append([name] + [number(x / GIB) for x in m.values()] + [number(sum(m.values()) / GIB), number(host / GIB),
                    span(work / FAST / 3600, work / SLOW / 3600), number(read / 1e12), span(read / 50e9 / 3600, read / 7e9 / 3600)])
    out.append(table(["", "weights", "gradients", "teacher", "scratch", "in all", "moments, on the host", "hours",
                      "TB read", "hours for that"], rows))
    return "\n\n".join(out)


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    args = sys.argv[1:]
    if args[:1] == ["--shape"]:
        s = Shape(json.loads(pathlib.Path(args[1]).read_text()))
        print(f"student {s.student} parameters, mixers {s.mixers}, teacher {s.teacher}")
        for loss in ("align", "kl"):
            print(f"{loss}: scratch of 4 x 512, recompute: {s.scratch({'context': 512, 'loss': loss}, 4) / 2**20:.1f} MiB")
        return 0
    check = args[1] if args[:1] == ["--check"] else None
    text = tables(json.loads(pathlib.Path(args[0] if args and not check else root / "recipes/radlads.json").read_text()))
    if check is None:
        print(text)
    elif any(part not in pathlib.Path(check).read_text() for part in text.split("\n\n")):
        print(f"{check}: its tables are not those of tools/scale_costs.py; put in what it prints", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
