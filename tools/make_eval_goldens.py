#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Records what lm-evaluation-harness itself asks, scores and writes, as fixtures for tests/eval_*_test.cc.

    python3 -m venv v && v/bin/pip install --no-deps lm_eval==0.4.8
    v/bin/pip install 'datasets<4' 'transformers<4.50' evaluate jinja2 pytablewriter sacrebleu scikit-learn rouge-score \
        sqlitedict dill word2number more_itertools jsonlines tqdm-multiprocess zstandard numexpr
    v/bin/python tools/make_eval_goldens.py tests/golden/eval [../shared/data/eval]

No torch and no network: the models of lm_eval are replaced by one whose answers are a hash of the question, and data
sets come from local files: the small rows in tests/golden/eval/data and, for hashes of whole request lists, the given
folder. Writes samples_*.jsonl and results.json (runs over the small rows), options.json (the same with chat templates,
a system instruction, generation arguments: hashes of the samples, and their first arguments), requests.json (hashes),
table.json (tables of random numbers as pytablewriter lays them out), capitalize.json.
"""
import ast
import csv
import hashlib
import json
import os
import random
import sys
import tempfile
import types
import warnings
from pathlib import Path

os.environ.update(USE_TORCH="0", HF_DATASETS_OFFLINE="1", HF_HUB_OFFLINE="1", HF_DATASETS_CACHE=tempfile.mkdtemp())
warnings.simplefilter("ignore")
import jinja2  # noqa: E402
import lm_eval_without_torch  # noqa: E402
import tokenizers  # noqa: E402
import transformers  # noqa: E402
from lm_eval_without_torch import Anything, Stub  # noqa: E402

lm_eval_without_torch.install()
import lm_eval.evaluator  # noqa: E402
from lm_eval.api.model import LM  # noqa: E402
from lm_eval.loggers.evaluation_tracker import GeneralConfigTracker  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402
from lm_eval.utils import handle_non_serializable, make_table  # noqa: E402

lm_eval.models.huggingface = types.SimpleNamespace(HFLM=Stub)
sys.modules.pop("torch")  # datasets would ask it for types


def number(*texts):
    return int(hashlib.sha256("\0".join(texts).encode()).hexdigest()[:8], 16)


def method_of_hflm(name):
    """A method of lm_eval's `hf` model, whose module needs torch."""
    source = (Path(lm_eval.__file__).parent / "models/huggingface.py").read_text()
    [function] = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef) and n.name == name]
    scope = {"jinja2": jinja2, "eval_logger": Anything(), "List": list, "Dict": dict}
    exec(ast.unparse(function), scope)
    return scope[name]


class Fake(LM):
    """Answers are a hash of the question; tests/eval_golden_test.cc has the same model."""

    def __init__(self, template=None):
        super().__init__()
        self.asked = []
        if template:
            self.tokenizer = transformers.PreTrainedTokenizerFast(
                tokenizer_object=tokenizers.Tokenizer(tokenizers.models.WordLevel({"<s>": 0}, "<s>")),
                bos_token="<s>", chat_template=template)

    apply_chat_template = method_of_hflm("apply_chat_template")
    tokenizer_name = "made-up"

    def chat_template(self, name=False):
        return self.tokenizer.chat_template if name else None

    def loglikelihood(self, requests):
        self.asked += [list(r.args) for r in requests]
        return [(-(number(*r.args) % 5000) / 1000, number(*r.args) % 2 == 0) for r in requests]

    def loglikelihood_rolling(self, requests):
        self.asked += [["", r.args[0]] for r in requests]
        return [-(number("", r.args[0]) % 5000) / 1000 for r in requests]

    def generate_until(self, requests):
        self.asked += [[r.args[0], r.args[1]["until"]] for r in requests]
        texts = []
        for r in requests:
            n = number(r.args[0]) % 4
            texts.append([" so $18.\n#### 18", " it is 1,004 or -7 \n#### 1,004.\n", " none", " 18"][n])
        return texts


FILES = {  # task: its splits in the small rows
    "arc_easy": ("test", "train"), "arc_challenge": ("test", "train"), "hellaswag": ("validation", "train"),
    "lambada_openai": ("test",), "piqa": ("validation", "train"), "sciq": ("test", "train"),
    "winogrande": ("validation", "train"), "wikitext": ("test",), "gsm8k": ("test", "train"),
    "mmlu_anatomy": ("test", "dev"), "mmlu_formal_logic": ("test", "dev"),
}


def config_of(task, folder):
    name = lambda split: (f"mmlu/{task[5:]}.{split}.jsonl" if task.startswith("mmlu_") else f"{task}.{split}.jsonl")
    found = {s: str(folder / name(s)) for s in FILES.get(task, ("test", "dev")) if (folder / name(s)).exists()}
    config = {"task": task, "dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": found}}
    if not task.startswith("mmlu_"):  # splits that are not at hand and not used
        config.update({f"{n}_split": None for n, s in (("training", "train"), ("validation", "validation")) if s not in found})
    return config


def evaluate(tasks, shots, template=None, **options):
    model = Fake(template)
    options["apply_chat_template"] = template is not None
    result = lm_eval.evaluator.simple_evaluate(
        model=model, tasks=tasks, num_fewshot=shots, task_manager=TaskManager(), bootstrap_iters=10,
        random_seed=0, numpy_random_seed=1234, torch_random_seed=1234, fewshot_random_seed=1234, **options)
    return model, result


def dump(value, **options):
    return json.dumps(value, default=handle_non_serializable, ensure_ascii=False, **options)


def sample_lines(rows):
    """As lm_eval.loggers.EvaluationTracker.save_results_samples writes them."""
    lines = []
    for row in rows:
        row["arguments"] = {f"gen_args_{i}": {f"arg_{j}": a for j, a in enumerate(args)}
                            for i, args in enumerate(row["arguments"])}
        text = lambda v: [text(x) for x in v] if isinstance(v, (list, tuple)) else str(v)
        row["resps"], row["filtered_resps"] = text(row["resps"]), text(row["filtered_resps"])
        row["target"] = str(row["target"])
        lines.append(dump(row) + "\n")
    return "".join(lines)


def small_runs(out):
    recorded = {}
    for shots in (0, 2):
        tasks = [config_of(t, out / "data") for t in FILES if not t.startswith("mmlu_")]
        for group, alias, child in (("mmlu_humanities", "humanities", "mmlu_formal_logic"),
                                    ("mmlu_stem", "stem", "mmlu_anatomy")):
            tasks.append({"group": group, "group_alias": alias, "task": [config_of(child, out / "data")],
                          "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
                          "metadata": {"version": 2}})
        mmlu = {"group": "mmlu", "task": tasks[-2:], "metadata": {"version": 2},
                "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}]}
        _, result = evaluate(tasks[:-2] + [mmlu], shots)
        samples = result.pop("samples")
        for task, rows in samples.items():
            (out / f"samples_{task}_{shots}shot.jsonl").write_text(sample_lines(rows))
        result["n-shot"].update({g: shots for g in result["groups"]})  # as v0.4.12 has it
        recorded[f"{shots}shot"] = {
            **{k: result[k] for k in ("results", "groups", "group_subtasks", "versions", "n-shot", "higher_is_better",
                                      "n-samples")},
            "table": make_table(json.loads(dump(result))), "groups_table": make_table(json.loads(dump(result)), "groups"),
            "configs": {t: {k: c[k] for k in ("task", "description", "target_delimiter", "fewshot_delimiter",
                                              "num_fewshot", "metric_list", "output_type", "repeats",
                                              "should_decontaminate", "metadata")}
                        for t, c in result["configs"].items()}}
    (out / "results.json").write_text(dump(recorded, indent=1) + "\n")


# Turns of the model's own, special texts, white space that is cut and kept; and one that has no role for a system.
TURNS = """{{ bos_token }}{% for m in messages %}
<|{{ m['role'] }}|>
{{ m['content'] if m['role'] == 'system' else m['content'] | trim }}<|end|>
{% endfor %}
{% if add_generation_prompt %}
<|assistant|>
{% endif %}"""
NO_SYSTEM = """{% for m in messages %}{% if m.role not in ['user', 'assistant'] %}{{ raise_exception('no ' + m.role) }}{% endif %}
[{{ m.role }}: {{ m.content }}]{% endfor %}{% if add_generation_prompt %}[assistant:{% endif %}"""
SYSTEM = "You are terse.\n"
SETTINGS = [
    {"template": TURNS, "shots": 0},
    {"template": TURNS, "shots": 2},
    {"template": TURNS, "shots": 2, "fewshot_as_multiturn": True},
    {"template": TURNS, "shots": 2, "fewshot_as_multiturn": True, "system_instruction": SYSTEM},
    {"template": NO_SYSTEM, "shots": 2, "system_instruction": SYSTEM},
    {"template": None, "shots": 2, "system_instruction": SYSTEM},
    {"template": None, "shots": 0, "gen_kwargs": "temperature=0.7,top_p=0.9,max_gen_toks=128,until=#= ,,do_sample=True"},
    {"template": None, "shots": 0, "gen_kwargs": "do_sample=false,temperature=1,top_k=20,max_gen_toks=16"},
]


def option_runs(out):
    kept = []
    for setting in SETTINGS:
        options = dict(setting)
        tasks = ["gsm8k"] if "gen_kwargs" in options else list(FILES)
        _, result = evaluate([config_of(t, out / "data") for t in tasks], options.pop("shots"), **options)
        tracker = GeneralConfigTracker()
        tracker.log_experiment_args("qwerky", "", setting.get("system_instruction"), setting["template"],
                                    setting.get("fewshot_as_multiturn", False))
        keys = ("system_instruction", "system_instruction_sha", "fewshot_as_multiturn", "chat_template", "chat_template_sha")
        one = {**setting, "results": {**{k: getattr(tracker, k) for k in keys},
                                      "gen_kwargs": result["config"]["gen_kwargs"]}, "tasks": {}}
        if "gsm8k" in tasks:
            one["results"]["generation_kwargs"] = result["configs"]["gsm8k"]["generation_kwargs"]
        for task, rows in result["samples"].items():
            lines = sample_lines(rows)
            one["tasks"][task] = {"arguments": rows[0]["arguments"]["gen_args_0"],
                                  "sha256": hashlib.sha256(lines.encode()).hexdigest()}
        kept.append(one)
    (out / "options.json").write_text(dump(kept, indent=1) + "\n")


def canonical(shared, folder):
    """The given data as Hub rows, converted apart from the program."""
    write = lambda name, rows: (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows))
    lines = lambda path: [json.loads(x) for x in path.read_text().split("\n") if x]
    for task, name in (("arc_easy", "Easy"), ("arc_challenge", "Challenge")):
        for split, part in (("test", "Test"), ("train", "Train")):
            write(f"{task}.{split}.jsonl", [
                {"id": r["id"], "question": r["question"]["stem"],
                 "choices": {k: [c[k] for c in r["question"]["choices"]] for k in ("text", "label")},
                 "answerKey": r["answerKey"]} for r in lines(shared / f"arc/ARC-{name}-{part}.jsonl")])
    write("lambada_openai.test.jsonl", lines(shared / "lambada_openai/lambada_test.jsonl"))
    labels = (shared / "piqa/valid-labels.lst").read_text().split()
    write("piqa.validation.jsonl", [{**r, "label": int(y)} for r, y in zip(lines(shared / "piqa/valid.jsonl"), labels)])
    (folder / "mmlu").mkdir()
    subjects = [p.name[:-9] for p in sorted((shared / "mmlu/test").glob("*.csv"))]
    for subject in subjects:
        for split in ("test", "dev"):
            with open(shared / f"mmlu/{split}/{subject}_{split}.csv", newline="") as f:
                write(f"mmlu/{subject}.{split}.jsonl", [
                    {"question": q, "subject": subject, "choices": c, "answer": int(a)}
                    for q, *c, a in list(csv.reader(f))[1:]])
    return ["arc_easy", "arc_challenge", "lambada_openai", "piqa"] + ["mmlu_" + s for s in subjects]


def request_hashes(out, shared):
    hashes = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for task in canonical(shared, folder):
            for shots, how in ((0, ""), (5, ""), (5, " chat"), (5, " turns")):
                config = config_of(task, folder)
                if shots and task == "piqa":
                    continue  # its train split is not among the given data
                model, result = evaluate([config], shots, TURNS if how else None, log_samples=False,
                                         fewshot_as_multiturn=how == " turns")
                text = json.dumps(model.asked)
                hashes[f"{task} {shots}{how}"] = {
                    "requests": len(model.asked), "sha256": hashlib.sha256(text.encode()).hexdigest(),
                    "results": {k: v for k, v in result["results"][task].items() if k != "alias"}}
    (out / "requests.json").write_text(dump(hashes, indent=1) + "\n")


def tables(out):
    rng, kept = random.Random(5), []
    for _ in range(60):
        value = lambda: round(rng.random() * rng.choice([1, 1, 1, 20, 3000, 1e6]), rng.choice([0, 1, 2, 3, 4, 4, 4]))
        results, versions, shots, better = {}, {}, {}, {}
        for i in range(rng.randint(1, 5)):
            task = f"task_{i}" + "x" * rng.randint(0, 6)
            names = rng.sample(["acc", "acc_norm", "perplexity"], rng.randint(1, 3))
            results[task] = {"alias": task}
            for m in names:
                results[task][m + ",none"] = float(value())
                results[task][m + "_stderr,none"] = rng.choice(["N/A", float(value()), float(value())])
            versions[task], shots[task] = rng.randint(1, 3), rng.randint(0, 12)
            better[task] = {m: m != "perplexity" for m in names}
        d = {"results": results, "versions": versions, "n-shot": shots, "higher_is_better": better}
        kept.append({**json.loads(json.dumps(d)), "table": make_table(d)})
    (out / "table.json").write_text(json.dumps(kept, ensure_ascii=False) + "\n")


def capitals(out):
    words = [chr(c) + chr(c) + "A" for c in range(0x20, 0x2fff) if not chr(c).isspace()]
    words += ["ὈΔΥΣΣΕΎΣ ΣΑΣ. Σ", "the man talks about CPR", "", "ﬁNE", "İSTANBUL İ", "ΑΣ’ΑΣ’ ΣΣ", "ŉ", "éÉ"]
    text = lambda f: hashlib.sha256("\n".join(map(f, words)).encode()).hexdigest()
    (out / "capitalize.json").write_text(json.dumps({"words": words[-8:], "capitalized": [w.capitalize() for w in words[-8:]],
                                                     "sha256": text(str.capitalize)}, indent=1) + "\n")


def main():
    out = Path(sys.argv[1])
    small_runs(out)
    option_runs(out)
    tables(out)
    capitals(out)
    if len(sys.argv) > 2:
        request_hashes(out, Path(sys.argv[2]))


main()
