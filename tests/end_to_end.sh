#!/bin/bash
# SPDX-License-Identifier: MIT
# end_to_end.sh QWERKY: the whole program on a tiny model. Train a teacher, convert it, kill and resume, measure,
# generate; then input that must be refused. Needs no data and no network.
set -u
qwerky=$(readlink -f "$1")
here=$(dirname "$(readlink -f "$0")")
rows=$here/golden/eval/data
bundled=$(readlink -f "$here/../models/teacher")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1

die() {
  echo "FAILED: $*" >&2
  [ -s err ] && sed 's/^/  | /' err >&2
  exit 1
}
# ok ARGS…: must succeed; stdout in `out`, stderr in `err`
ok() { "$qwerky" "$@" >out 2>err || die "exit status $? of: qwerky $*"; }
# refused PATTERN ARGS…: must end with status 1 and one message that matches
refused() {
  local pattern=$1 status
  shift
  "$qwerky" "$@" >out 2>err
  status=$?
  [ $status = 1 ] || die "exit status $status, expected 1, of: qwerky $*"
  grep -q -- "$pattern" err || die "no message \"$pattern\" of: qwerky $*"
}
same() { cmp -s "$1" "$2" || die "$1 and $2 differ"; }
# Losses of a run, without what depends on the clock.
losses() { sed 's/"tokens_per_second":[0-9.e+]*,*//' "$1/training/log.jsonl"; }
whole() { [ -e "$1/config.json" ]; }
await() { for _ in $(seq 400); do [ -e "$1" ] && return; sleep 0.05; done; die "$1 did not appear"; }
await_text() { for _ in $(seq 1200); do grep -q "$1" "$2" && return; sleep 0.05; done; die "no \"$1\" in $2"; }
await_line() { for _ in $(seq 1200); do [ -s "$1" ] && return; sleep 0.05; done; die "$1 stayed empty"; }

. "$here/tiny_run.sh"
data=(--data text.txt --holdout 3000 --field text)
# SHORT STEPS: overrides for stages of windows of 32 tokens, 4 in a step.
short() {
  echo "--set stages.$1.context=32 --set stages.$1.batch=4 --set stages.$1.warmup=5 --set stages.$1.tokens=$((128 * $2))"
}
stages() { echo "$(short 0 "$1") $(short 1 "$2") --set calibration_tokens=2048"; }

echo "train a teacher"
# shellcheck disable=SC2046  # words are meant to split
ok train config.json --vocab 320 "${data[@]}" --out teacher $(short 0 300) --set stages.0.lr=5e-3
whole teacher || die "train wrote no config.json"
grep -q "^plan: stage pretrain" err || die "no plan"
grep -q "^done" err || die "no closing line"
ok eval teacher --data text.txt --limit 3000 --window 64
grep -q "^perplexity [0-9.]* (" out || die "eval"
awk '{ exit !($2 < 20) }' out || die "the teacher learned nothing: $(cat out)"

echo "convert: rad-rwkv7 with text, rad-rwkv6 from the teacher's own text, a hybrid"
run=(convert teacher --to rad-rwkv7 "${data[@]}" --checkpoint-seconds 0.1 --report-steps 10)
# shellcheck disable=SC2207
run+=($(stages 150 250))
ok "${run[@]}" --out seven --dry-run
[ -e seven ] && die "--dry-run wrote something"
grep -q "^plan: memory" err || die "--dry-run printed no plan"
grep -q "^data:\|tokenising" err && die "--dry-run read the data"
ok "${run[@]}" --out seven
awk '/^plan: disk/ { planned = 1 } /^data:/ { exit !planned }' err || die "the data were prepared before the plan"
grep -q " ETA .* (stage " err || die "no time left of the whole run"
for file in config.json model.safetensors tokenizer.json README.md conversion.json training/log.jsonl; do [ -s seven/$file ] || die "seven/$file is missing"; done
# shellcheck disable=SC2046
ok convert teacher --to rad-rwkv6 --sample-tokens 6000 --out six $(stages 60 60)
grep -q "sampled from the teacher" err || die "self-sampled text is not announced"
# shellcheck disable=SC2046
ok convert teacher --to rad-rwkv7 --keep-softmax 0,2 "${data[@]}" --out hybrid $(stages 40 40)
grep -q '"qwerky_mixers"' hybrid/config.json || die "a hybrid names its mixers"
# shellcheck disable=SC2046
ok convert teacher --to rad-rwkv6 --keep-softmax 2 "${data[@]}" --out last $(stages 20 20) --set init=published --store bf16
grep -q '"num_attention_layers": 1' last/config.json || die "a hybrid of the published form counts its last layers"

for key in '"program": "qwerky [0-9]' '"name": "1 align mixers"' '"validation_kl": [0-9]' '"validation_ratio": [0-9]'; do
  grep -q "$key" seven/conversion.json || die "conversion.json has no $key"
done
ok --version
grep -q "$(sed -n 's/.*"program": "\(.*\)",*/\1/p' seven/conversion.json)" out || die "--version and conversion.json differ: $(cat out)"

echo "kill -9, and the same command again"
"$qwerky" "${run[@]}" --out killed >out 2>err &
pid=$!
await killed/training/checkpoint.safetensors
"$qwerky" "${run[@]}" --out killed >out2 2>err2 && die "a second run into one directory is not refused"
grep -q "^error: killed/training: another process works in this directory" err2 || die "the second run: $(cat err2)"
grep -q "^plan:\|^resuming" err2 && die "the second run is refused late"
kill -9 $pid || die "it ended before it could be killed"
wait $pid 2>/dev/null
whole killed && die "a killed run looks whole"
refused "no model here" inspect killed
ok "${run[@]}" --out killed
grep -q "^resuming" err || die "it did not resume"
same seven/model.safetensors killed/model.safetensors
[ "$(losses seven)" = "$(losses killed)" ] || die "the losses of the killed run differ"

echo "SIGINT, and the same command again"
"$qwerky" "${run[@]}" --out stopped >out 2>err &
pid=$!
await stopped/training/log.jsonl
kill -INT $pid
wait $pid
[ $? = 130 ] || die "SIGINT: expected exit status 130"
grep -q "^interrupted: progress is saved" err || die "SIGINT: no message"
whole stopped && die "a stopped run looks whole"
refused "stages.1.lr: was .*, now 0.5" "${run[@]}" --out stopped --set stages.1.lr=0.5
ok "${run[@]}" --out stopped
same seven/model.safetensors stopped/model.safetensors
[ "$(losses seven)" = "$(losses stopped)" ] || die "the losses of the stopped run differ"

echo "a full disk, and the same command again"
(ulimit -f 300; refused "checkpoint.safetensors" "${run[@]}" --out full) || exit 1
whole full && die "a run on a full disk looks whole"
[ -z "$(find full -name '*.partial')" ] || die "a full disk leaves temporary files"

echo "measure and generate"
for student in seven six hybrid last; do
  ok compare teacher $student --data text.txt --limit 3000 --window 32 --json $student.json
  ratio=$(sed -n 's/.*ratio \([0-9.]*\)$/\1/p' out | head -1)
  awk -v r="$ratio" 'BEGIN { exit !(r > 0.9 && r < 1.6) }' || die "compare $student: perplexity ratio $ratio"
  ok generate $student --prompt "Then the" --temperature 0 --max-tokens 12
  head -c 8 out | grep -q "^Then the" || die "generate $student: $(cat out)"
  ok inspect $student
  grep -q "^architecture" out || die "inspect $student"
  grep -q "128 allowed by config.json" out || die "inspect $student: positions"
done
echo "1,2,3" >ids
ok compare teacher seven --tokens-file ids --window 8
mkdir bare && cp seven/config.json seven/model.safetensors bare
ok logits seven --tokens 1,5,17 --out a.safetensors
ok logits bare --tokens 1,5,17 --out b.safetensors # needs no tokenizer
tail -c $((3 * 320 * 4)) a.safetensors >a && tail -c $((3 * 320 * 4)) b.safetensors >b
same a b
ok logits seven --tokens 1,5,17 --out c.safetensors --backend reference
ok generate seven --max-tokens 5 --seed 3 --temperature 1
ok generate seven --max-tokens 5
cp out one
ok generate seven --max-tokens 5 --prompt ""
same out one
ok eval seven --tasks passkey,niah,niah_multikey,ppl_by_length --lengths 600,1k --depths 0,100 --samples 2 --data text.txt --json recall.json
grep -q "^niah_multikey: seed 1234, 2 samples a cell" out && grep -q "^ *100 % .* .*" out || die "recall: $(cat out)"
[ "$(grep -c '"depth"' recall.json)" = 12 ] && grep -q '"partial": false' recall.json || die "recall.json"
refused "teacher: length 600 is more than the 128 positions" eval teacher --tasks passkey --lengths 600
refused "length: expected a number of tokens such as 4096 or 64k" eval seven --tasks passkey --lengths 1m
refused "teacher: the model has no chat template" eval teacher --tasks arc_easy --data . --apply-chat-template
refused '"beams" is not supported; these are: do_sample' eval teacher --tasks gsm8k --data . --gen-kwargs beams=4
refused "fewshot-as-multiturn: only with" eval teacher --tasks gsm8k --data . --fewshot-as-multiturn
refused "text and recall have no chat template" eval seven --tasks passkey,gsm8k --data . --system-instruction Hi
refused "nearest: passkey" eval seven --tasks paskey --data text.txt
rm err # of the command before
"$qwerky" eval seven --tasks passkey --lengths 64k --output stopped_recall >out 2>err &
pid=$!
await_line err
kill -INT $pid
wait $pid
[ $? = 130 ] && grep -q "^partial: " out && grep -q '"partial": true' stopped_recall/seven/recall_*.json || die "SIGINT in a haystack: $(cat out)"
recall=(eval seven --tasks passkey,ppl_by_length --lengths 600 --depths 0 --data text.txt --output recall --samples)
ok "${recall[@]}" 1
ok "${recall[@]}" 2
ok "${recall[@]}" 2
grep -q "^read 0 tokens" err || die "answers of an earlier run were not gone on with: $(cat err)"
echo "compare on tasks, as a page"
pair=(compare teacher seven --tasks arc_easy,wikitext,passkey --lengths 256,1k --depths 50 --samples 1 --data "$rows" --allow-partial --limit 3
  --text text.txt --text-tokens 2000 --window 32 --agreement-tokens 4 --contexts 4,8 --bootstrap-iters 10 --output pair --json pair.json --report)
ok "${pair[@]}" report.html
grep -q "^|arc_easy.*|acc " out && grep -q "^|wikitext.*|word_perplexity.*× " out || die "compare --tasks: $(cat out)"
[ "$(grep -c "<section>" report.html)" = 7 ] && grep -q "compare teacher seven --tasks arc_easy,wikitext,passkey" report.html || die "sections of report.html"
[ "$(grep -c '"depth"' pair.json)" = 2 ] || die "haystacks beyond the teacher's 128 positions are the student's alone: pair.json"
ok "${pair[@]}" again.html
[ "$(grep -c ": .* in the model; 0 tokens read" err)" = 2 ] && [ "$(grep -c "^read " err)" = "$(grep -c "^read 0 tokens" err)" ] ||
  die "the journals were not gone on with"
stopped=(compare teacher seven --tasks arc_easy,passkey --lengths 256k --data "$rows" --allow-partial --agreement-tokens 0
  --contexts 0 --bootstrap-iters 0 --output stopped_pair --json stopped.json --report stopped.html)
: >err
"$qwerky" "${stopped[@]}" >out 2>err &
pid=$!
await_text "^seven: .* tokens read" err
kill -INT $pid
wait $pid
[ $? = 130 ] && grep -q "^partial: stopped at the student's recall" out && grep -q '"partial": true' stopped.json || die "SIGINT in compare: $(cat out)"
grep -q 'class="partial">Partial: stopped at the student' stopped.html && grep -q "^|arc_easy" out || die "stopped.html"
ok compare teacher seven --data text.txt --limit 500 --contexts 0 --agreement-tokens 0 --report plain.html
[ "$(grep -c "<section>" plain.html)" = 3 ] || die "sections of plain.html" # text, layers, how it was measured
refused 'task "arc_hard" is not known; nearest:' compare teacher seven --tasks arc_hard --data "$rows"
refused "text goes to --text" compare teacher seven --tasks arc_easy
refused "softmax-window: changes the comparison on text alone" compare teacher seven --tasks arc_easy --data "$rows" --softmax-window 8
refused "report missing/report.html: missing is not a directory" compare teacher seven --data text.txt --report missing/report.html
for wrong in nan inf -1; do refused "temperature: expected a number of at least 0" generate seven --temperature=$wrong; done
refused "top-p: expected" generate seven --temperature 1 --top-p nan
refused "min-p: expected a number from 0 to 1" chat seven --min-p 2
refused "--logit-bias: expected ID=BIAS" generate seven --logit-bias 3
ok generate seven --max-tokens 5 --temperature 1 --top-k 9 --min-p 0.01 --typical-p 0.9 --repetition-penalty 1.1 --presence-penalty 0.1 \
  --frequency-penalty 0.1 --penalty-window 64 --dry-multiplier 0.8 --xtc-probability 0.5 --logit-bias 3=-100 --logit-bias 4=1
ok generate seven --max-tokens 5 --temperature 1 --mirostat 2 --mirostat-tau 3
printf '1 2 3 4\n5 6 7 8 9\n' >ids
ok eval seven --tokens-file ids --limit 6 --json -
grep -q '"tokens": 4' out || die "--limit with --tokens-file: $(cat out)"
ok bench seven --contexts 4 --json -
grep -q '"seconds_per_token"' out || die "bench --contexts --json -"
ok bench seven --prefill 4 --depths 0 --batches 1 --tokens 1 --json -
grep -q '"seconds_per_step"' out || die "bench --json -"
for kind in "" "--train"; do
  # shellcheck disable=SC2086
  refused "nowhere: no such file" bench nowhere $kind
  [ -s out ] && die "bench $kind measures the machine before it looks for its model"
done
refused "model is only for" bench seven --random qwen2.5-0.5b
refused "model is only for" bench seven --ops
refused "model2 is only for" bench seven teacher --train
refused "expected a number above 0, found 0" bench seven --prefill 0
refused "expected a number of at least 0, found -1" bench seven --depths -1
refused "--svg is only for" bench seven --svg x.svg
refused "--random is only for" bench --random qwen2.5-0.5b --contexts 8
refused "--save needs --tokenizer" bench --random qwen2.5-0.5b --save random
refused "--depths is only for" bench --random qwen2.5-0.5b --save random --tokenizer seven --depths 8
refused "--tokenizer is only for --save" bench --random qwen2.5-0.5b --tokenizer seven
refused "--type is only for" bench seven --type int8
refused "--to is only for" bench seven --to rad-rwkv6
refused "--depths is only for" bench --ops --depths 8
refused "--steps is only for" bench seven --steps 3
[ -e - ] && die "a file called - was written"
# A final norm of 10 everywhere makes a model too sure of itself: columns must hold perplexities of many digits.
rm -rf loud && cp -r seven loud
header=$(od -An -tu8 -N8 loud/model.safetensors)
at=$(head -c $((8 + header)) loud/model.safetensors | grep -ao '"model.norm.weight":{[^}]*}' | sed 's/.*"data_offsets":\[\([0-9]*\),.*/\1/')
for _ in $(seq 32); do printf '\0\0\040\101'; done | dd of=loud/model.safetensors bs=1 seek=$((8 + header + at)) conv=notrunc status=none
echo 9 200 31 250 77 140 210 99 >ids
ok compare teacher loud --tokens-file ids
awk '/^perplexity/ { n = NF; big = $3 > 1e5 && $3 < 1e200 } END { exit !(n == 5 && big) }' out || die "columns of compare: $(cat out)"
ok --threads 1 generate seven --prompt "Soon" --temperature 0 --max-tokens 20
cp out one
ok --threads 2 generate seven --prompt "Soon" --temperature 0 --max-tokens 20
same out one

echo "chat"
cat >chat.jinja <<'END'
{%- for m in messages %}{{ {'system': 'Once ', 'user': 'Then ', 'assistant': ''}[m.role] + m.content }}
{%- if m.role == 'assistant' %}<|endoftext|>{% endif %}{% endfor %}
END
# talk LINES ARGS…: one line of input a message
talk() { local lines=$1; shift; printf "$lines" | "$qwerky" chat "$@" --temperature 0 --max-tokens 20 --timings >out 2>err || die "exit status $? of: qwerky chat $*"; }
kept() { sed -n 's/^kept \([0-9]*\) tokens, read \([0-9]*\) .*/\1 \2/p' err; } # a line per answer
refused "has no chat template" chat seven
talk 'the cat\na dog\n/retry\n' teacher --chat-template chat.jinja
[ "$(wc -l <out)" = 3 ] && [ "$(sed -n 2p out)" = "$(sed -n 3p out)" ] || die "an answer after kept tokens and the same after all of them differ: $(cat out)"
kept | awk 'NR == 1 && $1 != 0 || NR == 2 && $1 < 10 || NR == 3 && $1 != 0 { exit 1 }' || die "teacher: tokens kept: $(kept)"
cp -r seven talking && cp chat.jinja talking/chat_template.jinja
talk 'the cat\n\na dog\n/retry\n/nonsense\n/system Once\nthe cat\n/help\n/quit\nnever\n' talking
[ "$(wc -l <out)" = 4 ] && [ "$(sed -n 2p out)" = "$(sed -n 3p out)" ] || die "chat: $(cat out)"
kept | awk 'NR == 2 { k = $1 } NR == 3 && $1 != k { exit 1 } END { exit !(k > 10) }' || die "talking: tokens kept: $(kept)"
grep -q "/nonsense is not a command" err && grep -q "^/retry" err || die "chat: commands"
talk 'the cat\na dog\n' six --chat-template chat.jinja --system "upon a time"
echo "{{ raise_exception('this model does not talk') }}" >mute.jinja
refused "mute.jinja, line 1: raise_exception: this model does not talk" chat seven --chat-template mute.jinja
echo "{% for" >broken.jinja
refused "broken.jinja, line 1: a tag without its %}" chat seven --chat-template broken.jinja
echo "x" | refused "conversation of .* does not fit in 3" chat teacher --chat-template chat.jinja --context 3
refused "template-variables: expected an object" chat seven --chat-template chat.jinja --template-variables '[1]'
# SIGINT stops one answer of eight, all to the same question, and not the program; without an answer to stop it ends it.
echo '{% for m in messages %}{{ m.content }} {% endfor %}' >plain.jinja
mkfifo pipe
"$qwerky" chat "$bundled" --chat-template plain.jinja --backend reference --temperature 0 --max-tokens 150 --timings <pipe >out 2>err &
pid=$!
exec 3>pipe
for _ in 1 2 3 4 5 6 7 8; do printf 'Once upon a time\n/reset\n'; done >&3
for _ in $(seq 1200); do [ -s out ] && break; sleep 0.05; done
sleep 0.1
kill -INT $pid
written() { sed -n 's/^kept .* wrote \([0-9]*\) .*/\1/p' err; }
for _ in $(seq 1200); do [ "$(written | wc -l)" = 8 ] && break; sleep 0.05; done
[ "$(written | sort -u | wc -l)" = 2 ] || die "SIGINT: expected seven whole answers and one cut short: $(written)"
sleep 0.2
kill -INT $pid
wait $pid
[ $? = 130 ] || die "SIGINT at the prompt: expected exit status 130"
exec 3>&-

echo "GGUF"
ok export six --gguf --type f32 --out six.gguf
ok logits six --tokens 1,5,17 --precision f32 --out a.safetensors
ok logits six.gguf --tokens 1,5,17 --precision f32 --out b.safetensors
tail -c $((3 * 320 * 4)) a.safetensors >a && tail -c $((3 * 320 * 4)) b.safetensors >b
same a b
ok export six.gguf --gguf --type q8_0 --out eight.gguf
ok generate eight.gguf --prompt "Then the" --temperature 0 --max-tokens 12
head -c 8 out | grep -q "^Then the" || die "generate eight.gguf: $(cat out)"
refused "no architecture for RAD-RWKV7" export seven --gguf --out x.gguf
refused "which format" export six --out x.gguf
refused "which format" export six --gguf --packed --out x.gguf
refused "cannot write nowhere/x.gguf" export nothing --gguf --out nowhere/x.gguf
refused "cannot write nowhere/x.qwk" export nothing --packed --out nowhere/x.qwk

echo "packed: export, run, measure, verify, quantize"
ok export seven --packed --out seven.qwk
ok logits seven --tokens 1,5,17 --out a.safetensors
ok logits seven.qwk --tokens 1,5,17 --out b.safetensors
cmp -s <(tail -c 3840 a.safetensors) <(tail -c 3840 b.safetensors) || die "a packed model has other logits"
ok generate seven.qwk --prompt "the cat" --max-tokens 8
cp out plain
ok generate seven.qwk --prompt "the cat" --max-tokens 8 --copy
same out plain
ok inspect seven.qwk --verify
grep -q "every hash is right" out || die "verify"
int4=(quantize seven --type int4 --data text.txt --tokens 4096 --measure-tokens 2000 --window 64 --out seven4.qwk)
ok "${int4[@]}"
kl=$(sed -n 's/.*; KL \([0-9.]*\) nats;.*/\1/p' out)
ok "${int4[@]}" --tune 100
sed -n 's/^perplexity .*, ratio \([0-9.]*\); KL \([0-9.]*\) nats;.*/\1 \2/p' out |
  awk -v before="$kl" '{ fits = $1 >= 0.98 && $1 <= 1.02 && $2 < before } END { exit !fits }' ||
  die "tuned int4 costs too much, without tuning KL $kl: $(cat out)"
ok compare teacher seven4.qwk --data text.txt --limit 2000 --window 64
ok inspect seven4.qwk
sed -n 's/^card .*"perplexity_ratio":\([0-9.]*\).*/\1/p' out | awk '{ fits = $1 >= 0.98 && $1 <= 1.02 } END { exit !fits }' ||
  die "the card does not tell the cost: $(cat out)"
ok quantize seven --type int8 --out seven8.qwk
grep -q "no --data" err || die "plain rounding is not announced"
ok bench seven8.qwk --prefill 16 --tokens 2
: >empty.txt
refused "expected --data" quantize seven --calibrate gptq --out x.qwk
refused "hold no text" quantize seven --data empty.txt --out x.qwk
refused "packed model already" quantize seven8.qwk --out x.qwk
refused "expected int8 or int4" quantize seven --type q4 --out x.qwk
refused "cannot write nowhere/x.qwk" quantize seven --data empty.txt --out nowhere/x.qwk
refused "--embedding: the embedding is the head" quantize seven --embedding int8 --out x.qwk
refused "inference only" convert seven8.qwk --out x
refused "not a packed file" inspect seven --verify
head -c -100 seven.qwk >cut.qwk
refused "truncated: needs" inspect cut.qwk
head -c -100 eight.gguf >cut.gguf
refused "truncated" inspect cut.gguf
refused "expected f32, f16, bf16, q8_0 or q4_0" export six --gguf --type q3 --out x.gguf

echo "input that must be refused"
refused "no such file" inspect nowhere
refused 'mixer "rwkv9" is not known' convert teacher --to rwkv9 "${data[@]}" --out x
refused "layer 3 does not exist" convert teacher --keep-softmax 3 "${data[@]}" --out x
refused "layer -1 does not exist" convert teacher --keep-softmax=-1 "${data[@]}" --out x
refused "nothing is converted" convert teacher --keep-softmax 0,1,2 "${data[@]}" --out x
refused "expected a softmax model" convert seven "${data[@]}" --out x
refused 'recipe "nope" is not known; known: ' convert teacher --recipe nope "${data[@]}" --out x
refused "expected key=value in UTF-8" convert teacher "${data[@]}" --out x --set lr
refused 'unknown key "stagex"' convert teacher "${data[@]}" --out x --set stagex=1
refused "the recipe has no" convert teacher "${data[@]}" --out x --set stages.9.lr=1
refused "expected a number" convert teacher "${data[@]}" --out x --set stages.0.lr=fast
refused "lr: expected a positive number" convert teacher "${data[@]}" --out x --set stages.0.lr=-1
refused "expected a whole number" convert teacher "${data[@]}" --out x --set stages.0.batch=1e30
refused "is longer than the teacher's 128 positions" convert teacher "${data[@]}" --out x
refused "sample-tokens" convert teacher --out x --set stages.0.context=32 --set stages.1.context=32 --sample-tokens -5
refused "out: expected a directory" convert teacher "${data[@]}"
refused "of memory beside the teacher, this machine has" convert teacher "${data[@]}" --out x --dry-run --set stages.0.context=32 --set stages.1.context=128 --set stages.1.batch=9e6
[ -e x ] && die "a refused conversion wrote something"
refused "another directory than the teacher" convert teacher "${data[@]}" --out ./teacher/ --set stages.0.context=32 --set stages.1.context=32
# shellcheck disable=SC2046
refused "already holds a model" convert teacher "${data[@]}" --out bare $(stages 2 2)
# shellcheck disable=SC2046
refused "cannot make the directory" convert teacher "${data[@]}" --out text.txt/x $(stages 2 2)
# shellcheck disable=SC2046
refused "/proc/x" convert teacher "${data[@]}" --out /proc/x $(stages 2 2)
refused "store: expected auto, f32 or bf16" convert teacher "${data[@]}" --out x --store int3 --set stages.0.context=32 --set stages.1.context=32
refused "expected auto, f32 or bf16, found f8" convert teacher "${data[@]}" --out x --precision f8
for command in "generate seven" "logits seven --tokens 1 --out z.safetensors" "eval seven --data text.txt" "compare teacher seven --data text.txt" \
  "convert teacher --out x" "train config.json --vocab 320 --data text.txt --out x" "bench teacher --train --steps 1" "bench teacher --contexts 8"; do
  # shellcheck disable=SC2086
  for backend in reference avx2; do refused "precision bf16: the $backend backend\|this CPU lacks" $command --precision bf16 --backend $backend; done
done
for backend in gpu ""; do refused "backend.*expected auto, cuda, avx512, avx2 or reference" generate seven --backend "$backend"; done
command -v nvidia-smi >/dev/null || refused "backend cuda: \(this program was built without CUDA\|no device found\)" generate seven --backend cuda
: >empty.txt
printf 'fine\nnot \xff\xfe fine\n' >latin.txt
# shellcheck disable=SC2046
refused "empty.txt\|no text" convert teacher --data empty.txt --out y $(stages 2 2)
# shellcheck disable=SC2046
refused "latin.txt" convert teacher --data latin.txt --out y $(stages 2 2)
# shellcheck disable=SC2046
refused "missing.txt" convert teacher --data missing.txt --out y $(stages 2 2)
# shellcheck disable=SC2046
refused "empty.txt.*no text" convert teacher --data empty.txt --out y --dry-run $(stages 2 2)
# shellcheck disable=SC2046
refused "latin.txt, line 2: not UTF-8" convert teacher --data latin.txt --out y --dry-run $(stages 2 2)
# shellcheck disable=SC2046
refused "plan: with the .* h at the measured .* more than ten years are refused" convert teacher "${data[@]}" --out y $(stages 2 2) --set stages.1.tokens=1e18
[ -e y/conversion.json ] && die "an absurd plan was started"
# shellcheck disable=SC2046
refused "teacher-memory: expected whole, layers or ranks, found disk" convert teacher "${data[@]}" --out y --teacher-memory disk $(stages 2 2)
# shellcheck disable=SC2046
refused "gradient-memory: expected whole or ranks, found disk" convert teacher "${data[@]}" --out y --gradient-memory disk $(stages 2 2)
# shellcheck disable=SC2046
refused "optimiser-memory: expected device or host, found disk" convert teacher "${data[@]}" --out y --optimiser-memory disk $(stages 2 2)
# shellcheck disable=SC2046
refused "report-steps" convert teacher "${data[@]}" --out y --report-steps 0 $(stages 2 2)
# shellcheck disable=SC2046
refused "stage 1 align mixers, step [0-9]*: the loss is .*; lower the learning rate" convert teacher "${data[@]}" --out y $(stages 40 2) --set stages.0.lr=1e30 --set stages.0.mixer_lr=0 --set stages.0.clip=0
# shellcheck disable=SC2046
refused "held out" convert teacher --data text.txt --holdout 100000000 --out y $(stages 2 2)
whole y && die "a refused conversion looks whole"

refused "prompt of .* tokens and --max-tokens" generate teacher --prompt "Then the cat" --max-tokens 200
refused "max-tokens" generate seven --max-tokens 0
refused "tokens: expected ids from 0 to 319" logits seven --tokens 1,320 --out z.safetensors
refused "tokens: expected ids" logits seven --tokens -1 --out z.safetensors
refused "tokens: expected ids" logits seven --tokens 99999999999999999999 --out z.safetensors
refused "tokens: expected ids" logits seven --tokens 1,,2 --out z.safetensors
refused "at least one id" logits seven --tokens "" --out z.safetensors
[ -e z.safetensors ] && die "refused logits left a file"
refused "expected text or token ids" compare teacher seven
echo 5 >one_id
refused "one_id, line 1: expected at least 2 tokens" eval seven --tokens-file one_id
printf '1 2\n5\n' >one_id
refused "one_id, line 2: expected at least 2 tokens" compare teacher seven --tokens-file one_id
refused "limit" eval seven --tokens-file ids --limit -1
refused 'task "trivia" is not known; nearest:' eval seven --tasks trivia --data text.txt
refused "subcommand"
refused "threads" --threads 0 inspect seven

broken() { rm -rf broken; cp -r seven broken; }
broken && sed -i 's/"hidden_size": 32/"hidden_size": 64/' broken/config.json
refused "expected \[" inspect broken
broken && at=$((8 + $(od -An -tu8 -N8 broken/model.safetensors))) # where the data begin: a value becomes NaN
printf '\xc0\x7f' | dd of=broken/model.safetensors bs=1 seek=$((at + 2)) conv=notrunc status=none
refused "finite\|NaN" generate broken
broken && truncate -s -1000 broken/model.safetensors
refused "model.safetensors" inspect broken
broken && rm broken/model.safetensors
echo '{"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}' >broken/model.safetensors.index.json
refused "shard model-00001-of-00002.safetensors .* is missing" inspect broken
broken && echo '{"model_type": "mamba"' >broken/config.json
refused "config.json" inspect broken
broken && sed -i 's/"rwkv7qwen2"/"mamba"/' broken/config.json
refused 'broken/config.json: model_type "mamba" is not supported; supported: ' inspect broken
refused 'broken/config.json: model_type "mamba" is not supported' compare teacher broken --data text.txt
rm broken/model.safetensors
refused 'broken/config.json: model_type "mamba" is not supported; supported: ' inspect broken
broken && rm broken/tokenizer*
refused "no tokenizer" generate broken
# shellcheck disable=SC2046
ok train config.json --vocab 350 "${data[@]}" --out larger $(short 0 2)
broken && cp larger/tokenizer.json broken
refused "belongs to another model" generate broken
printf 'junk' >seven/training/checkpoint.safetensors
refused "training/checkpoint.safetensors" "${run[@]}" --out seven
echo '[1]' >list.json
refused "expected an object" train list.json --vocab 320 "${data[@]}" --out y2
refused "vocab: expected" train config.json "${data[@]}" --out y2
refused "list.json" convert teacher --recipe list.json "${data[@]}" --out y

echo "end to end: all fine in $SECONDS s"
