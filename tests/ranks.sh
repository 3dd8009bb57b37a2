#!/bin/bash
# SPDX-License-Identifier: MIT
# ranks.sh QWERKY: one run on 1, 2 and 4 processes of one machine, under mpirun. The losses are the same up to rounding, the
# result and an interrupted run too; a rank that dies ends the run with its name.
set -u
qwerky=$(readlink -f "$1")
here=$(dirname "$(readlink -f "$0")")
command -v mpirun >/dev/null || { echo "skipped: no mpirun (Debian: openmpi-bin)"; exit 77; }
ldd "$qwerky" | grep -q libmpi || { echo "skipped: built without MPI"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_mpi_yield_when_idle=1  # ranks that wait leave the cores to those that work

die() {
  echo "FAILED: $*" >&2
  [ -s err ] && sed 's/^/  | /' err >&2
  exit 1
}
# on RANKS ARGS…: stdout in `out`, stderr in `err`
on() {
  local ranks=$1
  shift
  mpirun --oversubscribe --bind-to none -n "$ranks" "$qwerky" --threads 1 "$@" >out 2>err
}
# close FILE FILE KEY [SHARE]: numbers of that key in two logs differ by less than 1e-4, or that share, of their size
close() {
  for file in "$1" "$2"; do grep -o "\"$3\":[^,}]*" "$file" | cut -d: -f2 >"$(basename "$(dirname "$(dirname "$file")")").numbers"; done
  local a b
  a=$(basename "$(dirname "$(dirname "$1")")").numbers b=$(basename "$(dirname "$(dirname "$2")")").numbers
  [ -s "$a" ] || die "no $3 in $1"
  paste "$a" "$b" | awk -v share="${4:-1e-4}" 'NF != 2 { exit 1 } { d = $1 - $2; if (d < 0) d = -d; if (d > share * $1) exit 1 }' ||
    die "$3 of $1 and $2: $(paste -sd' ' "$a") | $(paste -sd' ' "$b")"
}

. "$here/tiny_run.sh"
data=(--data text.txt --holdout 3000 --report-steps 5)
shape() { echo "--set stages.$1.context=32 --set stages.$1.batch=8 --set stages.$1.warmup=5 --set stages.$1.tokens=$((256 * $2))"; }

echo "a teacher on two ranks"
# shellcheck disable=SC2046  # words are meant to split
on 2 train config.json --vocab 300 "${data[@]}" --out teacher $(shape 0 60) --set stages.0.lr=5e-3 || die "train on 2 ranks"
[ -e teacher/config.json ] || die "train wrote no model"

# shellcheck disable=SC2207
steps=($(shape 0 20) $(shape 1 20) --set calibration_tokens=2048 --set stages.1.average_from=0.5 --set stages.0.cache_targets=true --set stages.0.passes=2)
for ranks in 1 2 4; do
  echo "convert on $ranks"
  on "$ranks" convert teacher --to rad-rwkv7 "${data[@]}" --out "on$ranks" "${steps[@]}" || die "convert on $ranks ranks"
  [ "$(grep -c '^done' err)" = 1 ] || die "one rank speaks"
  close on1/training/log.jsonl "on$ranks/training/log.jsonl" loss
  find "on$ranks" -name 'optimiser-*' | awk -v n="$ranks" 'END { exit NR != n - 1 }' || die "files of $ranks ranks: $(ls "on$ranks/training")"
done

for ranks in 2 4; do
  echo "gradients of a layer at a time on $ranks"
  on "$ranks" convert teacher --to rad-rwkv7 "${data[@]}" --out "layered$ranks" "${steps[@]}" --set stages.1.windows_at_once=1 --gradient-memory ranks ||
    die "gradients over $ranks ranks"
  close on1/training/log.jsonl "layered$ranks/training/log.jsonl" loss
done

echo "begun on four ranks, gone on with two, then one"
(
  await() { for _ in $(seq 1200); do grep -qs '"step":5' "$1" && return; sleep 0.05; done; }
  await moved/training/log.jsonl
  pkill -INT -n -f "out moved"  # one rank alone is told
) &
on 4 convert teacher --to rad-rwkv7 "${data[@]}" --out moved "${steps[@]}" --checkpoint-seconds 0
status=$?
wait
[ $status = 130 ] || [ $status = 0 ] || die "an interrupted run ended with $status"
on 2 convert teacher --to rad-rwkv7 "${data[@]}" --out moved "${steps[@]}" || die "going on with 2 ranks"
close on1/training/log.jsonl moved/training/log.jsonl loss

if grep -q avx512_bf16 /proc/cpuinfo; then
  echo "products of bf16: weights are copies, each rank holds its part of the masters"
  half=("${steps[@]}" --precision bf16 --store f32)
  step=0.0039  # of bf16, 2^-8: sums in another order round to the next value here and there
  # planned_weights: bytes of a rank's weights by the plan in `err`
  planned_weights() { sed -n 's/.*: weights \([0-9.]*\) KiB, teacher.*/\1/p' err; }
  for ranks in 1 2 4; do
    on "$ranks" convert teacher --to rad-rwkv7 "${data[@]}" --out "half$ranks" "${half[@]}" || die "bf16 on $ranks ranks"
    close half1/training/log.jsonl "half$ranks/training/log.jsonl" loss $step
    [ "$ranks" = 1 ] && whole=$(planned_weights)
  done
  awk -v whole="$whole" -v part="$(planned_weights)" 'BEGIN { exit !(part > 0 && part < 0.95 * whole) }' ||
    die "weights of $whole KiB take $(planned_weights) on each of 4 ranks"
  for ranks in "2 2" "4 2"; do  # begun and gone on with
    set -- $ranks
    (
      for _ in $(seq 1200); do grep -qs '"step":5' "half$1$2/training/log.jsonl" && break; sleep 0.05; done
      pkill -INT -n -f "out half$1$2"
    ) &
    on "$1" convert teacher --to rad-rwkv7 "${data[@]}" --out "half$1$2" "${half[@]}" --checkpoint-seconds 0
    status=$?
    wait
    [ $status = 130 ] || [ $status = 0 ] || die "an interrupted run ended with $status"
    on "$2" convert teacher --to rad-rwkv7 "${data[@]}" --out "half$1$2" "${half[@]}" || die "going on with $2 ranks"
    close half1/training/log.jsonl "half$1$2/training/log.jsonl" loss $step
  done
  cmp half2/model.safetensors half22/model.safetensors || die "masters of 2 ranks that were stopped give other bits"
else
  echo "skipped: bf16 over ranks (no AVX512_BF16)"
fi

for memory in whole ranks; do  # where a thread gathers layers, it waits for the dead too
  echo "a rank dies, teacher $memory"
  (
    for _ in $(seq 1200); do grep -qs '"step":5' "dead-$memory/training/log.jsonl" && break; sleep 0.05; done
    pkill -KILL -n -f "convert.*out dead-$memory"
  ) &
  on 2 convert teacher --to rad-rwkv7 "${data[@]}" --out "dead-$memory" --teacher-memory $memory $(shape 0 2000) $(shape 1 20) --set calibration_tokens=2048 \
    --checkpoint-seconds 0 && die "a run without one of its ranks ended well"
  wait
  grep -q "process rank [01] .*signal 9" err || die "nothing names the rank that died"
done

echo "frozen weights of a teacher of 12 layers over ranks"
sed 's/"num_hidden_layers": 3/"num_hidden_layers": 12/' config.json >deep.json
on 1 train deep.json --vocab 300 "${data[@]}" --out deep $(shape 0 10) --set stages.0.lr=5e-3 || die "train 12 layers"
frozen=($(shape 0 10) $(shape 1 10) --set calibration_tokens=2048 --set 'stages.1.train=*.self_attn.*')
# planned_teacher: bytes of the teacher by the plan in `err`
planned_teacher() { sed -n 's/.*plan: memory.*, teacher \([0-9.]*\) \([KM]\)iB.*/\1 \2/p' err | awk '{ print int($1 * ($2 == "M" ? 1048576 : 1024)) }'; }
on 1 convert deep --to rad-rwkv7 "${data[@]}" --out whole "${frozen[@]}" || die "12 layers, teacher whole"
whole=$(planned_teacher)
on 1 convert deep --to rad-rwkv7 "${data[@]}" --out layers "${frozen[@]}" --teacher-memory layers || die "12 layers, from files"
cmp whole/model.safetensors layers/model.safetensors || die "layers from files give other bits"
for ranks in 2 4; do
  on "$ranks" convert deep --to rad-rwkv7 "${data[@]}" --out "whole$ranks" "${frozen[@]}" || die "12 layers on $ranks ranks"
  on "$ranks" convert deep --to rad-rwkv7 "${data[@]}" --out "over$ranks" "${frozen[@]}" --teacher-memory ranks || die "12 layers over $ranks ranks"
  cmp "whole$ranks/model.safetensors" "over$ranks/model.safetensors" || die "layers over $ranks ranks give other bits"
  for key in loss validation_kl; do
    cmp <(grep -o "\"$key\":[^,}]*" "whole$ranks/training/log.jsonl") <(grep -o "\"$key\":[^,}]*" "over$ranks/training/log.jsonl") ||
      die "$key over $ranks ranks"
  done
  part=$(planned_teacher)  # 1/R of 12 layers, two layers, and a tenth for embedding and norms
  [ "$part" -gt 0 ] && [ $((part * 12 * ranks)) -lt $((whole * (12 + 2 * ranks + ranks * 2))) ] ||
    die "teacher of $whole bytes takes $part on each of $ranks ranks"
done
echo "gathers of layers beside sums of gradients"
for memory in whole ranks; do
  on 2 convert deep --to rad-rwkv7 "${data[@]}" --out "both-$memory" "${frozen[@]}" --set stages.1.windows_at_once=1 --gradient-memory ranks --teacher-memory $memory ||
    die "gradients over ranks, teacher $memory"
done
cmp both-whole/model.safetensors both-ranks/model.safetensors || die "layers and gradients over ranks give other bits than gradients alone"

echo "refusals"
on 2 convert deep --to rad-rwkv7 "${data[@]}" --out few "${frozen[@]}" --teacher-memory ranks --set stages.0.batch=6 && die "uneven windows"
grep -q "need windows of equal number: a batch that is a multiple of 4 (2 ranks of 2 lanes), found 6" err || die "no message of uneven windows"
on 2 convert teacher --to rad-rwkv7 "${data[@]}" --out few "${steps[@]}" --gradient-memory ranks --set stages.1.batch=6 && die "uneven windows"
grep -q "share the teacher's weights or gradients need windows of equal number" err || die "no message of uneven windows"
on 4 convert teacher --to rad-rwkv7 "${data[@]}" --out few "${steps[@]}" --set stages.0.batch=2 && die "2 windows for 4 ranks"
grep -q "rank [0-3] of 4 on .*: error: stage .*: 4 ranks cannot share a batch of 2 windows" err || die "no message of ranks and windows"
echo "passed"
