#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# From a bare Debian 12: installs what is missing, builds, converts the bundled softmax model to RAD-RWKV7 and shows
# both side by side. Needs no data: the text to learn from is sampled from the softmax model itself.
#   ./demo.sh [DIRECTORY]    keeps the result in DIRECTORY (demo-out) and shows it again when it is there
set -euo pipefail
cd "$(dirname "$0")"

teacher=models/teacher
out=${1:-demo-out}
student=$out/rwkv7
prompt="Once upon a time"
sampled=500000  # tokens sampled from the softmax model; 5 % of them are held out

section() { printf '\n\n━━ %s\n\n' "$*"; }
caption() { printf '\n%s\n' "$*" | fold -s -w 98; }

section "1  Build"
tools/install.sh
cmake --preset release -DCMAKE_UNITY_BUILD=ON -DQWERKY_TESTS=OFF -DQWERKY_BENCH=OFF >/dev/null
cmake --build build -j "$(nproc)" --target qwerky | tail -n 1
qwerky=build/qwerky

section "2  Convert: softmax attention becomes RAD-RWKV7, in minutes"
if [ -f "$student/conversion.json" ] && [ "$student/conversion.json" -nt "$teacher/model.safetensors" ]; then
  echo "$student is there from an earlier run and is shown again. To convert anew: rm -r $out"
else
  "$qwerky" convert "$teacher" --to rad-rwkv7 --recipe demo --sample-tokens "$sampled" --out "$student"
fi

section "3  How close is the student to its teacher?"
"$qwerky" compare "$teacher" "$student" --data "$student/data/validation.tokens"
caption "Text: what the teacher wrote and the student has not seen. It is the teacher's own language, so the" \
  "teacher's perplexity is flattering; the ratio is what counts. How the student does on real text: README.md."

section "4  Both continue the same prompt, always with the likeliest token"
for model in "$teacher" "$student"; do
  echo "$model:"
  "$qwerky" generate "$model" --prompt "$prompt" --temperature 0 --max-tokens 120 2>/dev/null | fold -s -w 98 | sed 's/^/  /'
  printf '\n\n'
done

section "5  What a token costs as the text grows"
"$qwerky" bench "$teacher" "$student" --contexts 128,512,2048,8192 --svg "$out/context.svg" --json "$out/context.json"
caption "The softmax model keeps its whole past and reads it for every token; the student keeps a state of fixed size." \
  "Drawn: $out/context.svg"
caption "To chat with both, side by side in a browser:  $qwerky serve $student --compare-with $teacher"
