#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# From a bare Debian 12: installs what is missing, builds, converts the bundled softmax model to RAD-RWKV7, and
# shows parent and child side by side. Needs no data: the text is sampled from the parent.
set -euo pipefail
cd "$(dirname "$0")"

teacher=models/teacher
out=${1:-demo-out}
prompt="Once upon a time, there was a little girl"

tools/install.sh
cmake --preset release -DQWERKY_BENCH=OFF
cmake --build build -j "$(nproc)" --target qwerky

echo; echo "== converting $teacher (softmax) to $out/student (RAD-RWKV7)"
build/qwerky convert "$teacher" --to rad-rwkv7 --recipe recipes/demo.json --out "$out/student"

echo; echo "== how close the child is to its parent"
build/qwerky compare "$teacher" "$out/student" --data "$out/student/heldout.txt"

for model in "$teacher" "$out/student"; do
  echo; echo "== $model writes"
  build/qwerky generate "$model" --prompt "$prompt" --temperature 0 --max-tokens 120
done

echo; echo "== memory and time per token as the context grows"
build/qwerky bench "$teacher" "$out/student" --context 64,256,1024,4096 --plot
