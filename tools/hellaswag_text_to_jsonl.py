#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""HellaSwag as six lines of text a task (klosax/hellaswag_text_data, which llama.cpp reads) to rows for `eval`.

    tools/hellaswag_text_to_jsonl.py hellaswag_val_full.txt[.bz2] DIR/hellaswag.validation.jsonl

Lines: "activity: context", label, four endings. The text has been cleaned and no longer says where ctx_b begins; here it
is what follows the last sentence, if that has no end of its own. Prompts come out nearly, not exactly, as those of the
original rows, so `eval` takes the file with --allow-partial only and makes no claim of equality.
"""
import bz2
import json
import re
import sys
from pathlib import Path


def rows_of(lines):
    if len(lines) % 6:
        sys.exit(f"error: expected six lines a task, found {len(lines)} lines")
    for i in range(0, len(lines), 6):
        activity, colon, ctx = lines[i].partition(": ")
        if not colon or lines[i + 1] not in ("0", "1", "2", "3"):
            sys.exit(f"error: line {i + 1}: expected \"activity: context\" and a label of 0 to 3 below it")
        ctx_a, ctx_b = ctx, ""
        if not re.search(r"[.!?][\"')\s]*$", ctx) and (cut := re.search(r"^.*[.!?][\"')]* ", ctx, re.S)):
            ctx_a, ctx_b = ctx[:cut.end() - 1], ctx[cut.end():]
        yield {"ind": i // 6, "activity_label": activity, "ctx_a": ctx_a, "ctx_b": ctx_b, "ctx": ctx,
               "endings": lines[i + 2:i + 6], "source_id": "text", "split": "val", "split_type": "", "label": lines[i + 1]}


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, target = map(Path, sys.argv[1:])
    data = source.read_bytes()
    text = (bz2.decompress(data) if source.suffix == ".bz2" else data).decode()
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    rows = list(rows_of(lines))
    target.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{len(rows)} rows in {target}")


main()
