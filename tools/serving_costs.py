#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a decoded token costs a Qwen2.5 model and its RAD-RWKV7 student, by batch and context: tables of docs/scale.md.

    tools/serving_costs.py                                  prints the tables of one GPU, from formulas
    tools/serving_costs.py --check docs/scale.md            fails where the page's tables are not what this prints
    tools/serving_costs.py --measured TEACHER.json STUDENT.json
                                                            two `qwerky bench --json` beside the same formula

A step of B sequences takes the longer of its bytes at the memory's rate and its operations at the arithmetic's:

    bytes       weights + B (keys and values of the context  |  state, read and written)
    operations  B (2 a weight + 4 context A of each layer    |  2 a weight + 8 A N of each layer)
"""
import json
import pathlib
import sys

from scale_costs import SHAPES, Shape, number, table

RATE, BANDWIDTH, MEMORY = 400e12, 4e12, 141e9  # one H200: 40 % of its bf16 peak, 83 % of its bandwidth, its memory
ROOM = 0.9  # of the memory, for weights, keys and values or states
WEIGHT = {"7B": 2, "32B": 1, "72B": 1}  # bytes: bf16, and int8 where bf16 would leave little room
CONTEXTS = 4096, 32768, 262144, 1048576
MOST = 1024  # sequences at once
BATCHES = 1, 8, 32, 128


def seconds(bytes_moved, operations):
    return max(bytes_moved / BANDWIDTH, operations / RATE)


class Served:
    """Both models in memory: bytes of weights, of a token's keys and values in bf16, and of a state in f32."""

    def __init__(self, name):
        s = Shape(SHAPES[name])
        self.teacher, self.student = WEIGHT[name] * s.teacher_products, WEIGHT[name] * s.student_products
        self.token, self.state = 2 * 2 * s.K * s.L, 4 * s.A * s.N * s.L
        self.teacher_work = lambda context: 2 * s.teacher_products + 4 * context * s.A * s.L
        self.student_work = 2 * s.student_products + 8 * s.A * s.N * s.L

    def teacher_holds(self, context):
        return min(MOST, int((ROOM * MEMORY - self.teacher) / (self.token * context)))

    def student_holds(self):
        return min(MOST, int((ROOM * MEMORY - self.student) / self.state))

    def teacher_token(self, batch, context):
        return seconds(self.teacher + batch * self.token * context, batch * self.teacher_work(context)) / batch

    def student_token(self, batch):
        return seconds(self.student + batch * 2 * self.state, batch * self.student_work) / batch

    def context_of(self, ratio, batch):
        """Shortest context at which the teacher's token costs so many times the student's, both at `batch`."""
        student = ratio * self.student_token(batch)
        low, high = 1, 1 << 40
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.teacher_token(batch, middle) >= student else (middle + 1, high)
        return low


def microseconds(s):
    return number(1e6 * s)


def tokens(n):
    return f"{n / 1e6:.3g} M" if n >= 1e6 else f"{n / 1e3:.3g} k"


def tables():
    at_most, where = [], []
    for name in SHAPES:
        m = Served(name)
        batch = m.student_holds()
        for context in CONTEXTS:
            held = m.teacher_holds(context)
            row = [name, tokens(context)]
            if held == 0:
                row += ["0", "does not fit"]
            else:
                row += [str(held), microseconds(m.teacher_token(held, context))]
            row += [str(batch), microseconds(m.student_token(batch))]
            at_most.append(row + ["–" if held == 0 else number(m.teacher_token(held, context) / m.student_token(batch)) + "×"])
        for b in BATCHES:
            contexts = [m.context_of(ratio, b) for ratio in (2, 10, 100, 1000)]
            where.append([name, str(b)] + [tokens(c) + ("" if m.teacher_holds(c) >= b else " *") for c in contexts])
    return "\n\n".join([
        table(["", "context", "teacher: at once", "µs a token", "student: at once", "µs a token", "ratio"], at_most),
        table(["", "batch", "2×", "10×", "100×", "1,000×"], where)])


def measured(paths):
    """Tokens of both models as measured, and what bytes and operations alone say of their ratio."""
    runs = [json.loads(pathlib.Path(p).read_text()) for p in paths]
    rows = []
    for of_teacher in runs[0]["decode"]:
        of_student = [d for d in runs[1]["decode"] if (d["batch"], d["depth"]) == (of_teacher["batch"], of_teacher["depth"])]
        if not of_student:
            continue
        both = of_teacher, of_student[0]
        # Bytes and operations of a step over what the machine gave just then: the longer is the formula's time.
        formula = [d["seconds_per_step"] * max(d["share_of_read_bandwidth"], d["share_of_peak"]) for d in both]
        times = [1e3 / d["tokens_per_second"] for d in both]
        rows.append([str(both[0]["batch"]), tokens(both[0]["depth"]), number(times[0]), number(times[1]),
                     number(times[0] / times[1]) + "×", number(formula[0] / formula[1]) + "×"])
    return table(["batch", "context", "teacher, ms a token", "student", "ratio", "by the formula"], rows)


def main():
    args = sys.argv[1:]
    if args[:1] == ["--measured"]:
        print(measured(args[1:3]))
        return 0
    text = tables()
    if args[:1] != ["--check"]:
        print(text)
    elif any(part not in pathlib.Path(args[1]).read_text() for part in text.split("\n\n")):
        print(f"{args[1]}: its tables are not those of tools/serving_costs.py; put in what it prints", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
