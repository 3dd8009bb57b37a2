#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Asks a running `qwerky serve` with clients as they are: the openai package, and lm-evaluation-harness.

    python3 -m venv v && v/bin/pip install openai && v/bin/pip install --no-deps lm_eval==0.4.8
    v/bin/pip install 'datasets<4' 'transformers<4.50' evaluate jinja2 pytablewriter sacrebleu scikit-learn rouge-score \\
        sqlitedict dill word2number more_itertools jsonlines tqdm-multiprocess zstandard numexpr tenacity aiohttp requests
    v/bin/python tools/check_clients.py build/qwerky MODEL ../shared/data/eval [--limit 20] [--chat-template FILE]

Starts the server itself. The data folder is one that `qwerky eval --data` takes; lm-eval gets the same documents. No
torch: lm-eval's local-completions needs none, so it is replaced by a stub. Prints what was compared, and ends with
status 1 at the first difference.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
import warnings
from pathlib import Path

os.environ.update(USE_TORCH="0", HF_DATASETS_OFFLINE="1", HF_HUB_OFFLINE="1", HF_DATASETS_CACHE=tempfile.mkdtemp(),
                  OPENAI_API_KEY="none", LOGLEVEL="ERROR")
warnings.simplefilter("ignore")


def expect(condition, what):
    print(("ok    " if condition else "WRONG ") + what)
    if not condition:
        sys.exit(1)


def openai_checks(url, chat):
    import openai
    client = openai.OpenAI(base_url=url + "/v1", api_key="none")
    model = client.models.list().data[0].id
    out = client.completions.create(model=model, prompt="Once upon a time", max_tokens=8, temperature=0, echo=True,
                                    logprobs=2, seed=1)
    told = out.choices[0].logprobs
    expect(len(told.tokens) == out.usage.prompt_tokens + out.usage.completion_tokens and told.token_logprobs[0] is None,
           f"openai completions, echo and logprobs: {len(told.tokens)} tokens of {out.choices[0].text!r}")
    parts = list(client.completions.create(model=model, prompt="Once upon a time", max_tokens=8, temperature=0,
                                           stream=True, stream_options={"include_usage": True}))
    text = "".join(p.choices[0].text for p in parts if p.choices)
    expect("Once upon a time" + text == out.choices[0].text and parts[-1].usage.completion_tokens == 8,
           f"openai completions, streamed: {text!r}")
    vector = client.embeddings.create(model=model, input=["The cat", "The dog"]).data
    expect(len(vector) == 2 and abs(sum(x * x for x in vector[0].embedding) - 1) < 1e-3,
           f"openai embeddings: {len(vector[0].embedding)} numbers")
    try:
        client.completions.create(model=model, prompt="a", extra_body={"wrong_field": 1})
        expect(False, "an unknown field is refused")
    except openai.BadRequestError as error:
        expect(error.param == "wrong_field", f"openai error: {error.message}")
    if not chat:
        return
    ask = {"model": model, "messages": [{"role": "user", "content": "Tell me about the fox."}], "max_tokens": 12,
           "temperature": 0, "seed": 1}
    whole = client.chat.completions.create(**ask)
    parts = list(client.chat.completions.create(stream=True, **ask))
    text = "".join(p.choices[0].delta.content or "" for p in parts if p.choices)
    expect(text == whole.choices[0].message.content and whole.usage.completion_tokens > 0,
           f"openai chat, whole and streamed: {text!r}")
    ask["messages"] += [whole.choices[0].message, {"role": "user", "content": "And then?"}]
    second = client.chat.completions.create(**ask)
    cached = second.usage.prompt_tokens_details.cached_tokens
    expect(cached > 0, f"openai chat, second turn: {cached} of {second.usage.prompt_tokens} prompt tokens were known")
    tool_checks(client, model)


def tool_checks(client, model):
    import openai
    animal = {"type": "object", "properties": {"animal": {"type": "string", "enum": ["fox", "owl"]}}, "required": ["animal"]}
    ask = {"model": model, "messages": [{"role": "user", "content": "Who lives in the wood?"}], "seed": 1, "max_tokens": 200,
           "tools": [{"type": "function", "function": {"name": name, "parameters": animal}} for name in ("find", "call")],
           "parallel_tool_calls": False}
    try:
        whole = client.chat.completions.create(tool_choice="required", **ask).choices[0].message
    except openai.BadRequestError as error:
        if error.param != "tools":
            raise
        return print("      no tools: " + error.message)
    call = whole.tool_calls[0]
    expect(call.function.name in ("find", "call") and json.loads(call.function.arguments)["animal"] in ("fox", "owl"),
           f"openai chat, tool_choice required: {call.function.name} {call.function.arguments}")
    named = {"type": "function", "function": {"name": "call"}}
    parts = [p.choices[0].delta.tool_calls for p in client.chat.completions.create(tool_choice=named, stream=True, **ask)]
    names = [c.function.name for calls in parts for c in calls or []]
    expect(names == ["call"], f"openai chat, tool_choice by name, streamed: {names[0]}")
    ask["messages"] += [whole, {"role": "tool", "tool_call_id": call.id, "content": "a red fox"}]
    after = client.chat.completions.create(tool_choice="none", **{**ask, "max_tokens": 8}).choices[0].message
    expect(after.content and not after.tool_calls, f"openai chat, after the tool: {after.content!r}")


def json_lines(file):
    return [json.loads(line) for line in file.read_text().split("\n") if line]


def documents(data):
    """Rows of each task whose data are there, as lm-eval's data sets have them, and their split."""
    out = {"arc_easy": ("test", [
        {"id": r["id"], "question": r["question"]["stem"], "answerKey": r["answerKey"],
         "choices": {k: [c[k] for c in r["question"]["choices"]] for k in ("text", "label")}}
        for r in json_lines(data / "arc/ARC-Easy-Test.jsonl")])}
    if (data / "piqa/valid.jsonl").exists():
        labels = (data / "piqa/valid-labels.lst").read_text().split()
        rows = [{**r, "label": int(label)} for r, label in zip(json_lines(data / "piqa/valid.jsonl"), labels)]
        out["piqa"] = "validation", rows
    for task, split, file in (("lambada_openai", "test", "lambada_openai/lambada_test.jsonl"),
                              ("winogrande", "validation", "winogrande_1.1/dev.jsonl")):
        if (data / file).exists():
            out[task] = split, json_lines(data / file)
    return out


def lm_eval_rows(url, name, model, task, split, rows, limit, concurrent):
    import lm_eval_without_torch
    lm_eval_without_torch.install("openai_completions", "api_models", "utils")
    import lm_eval.evaluator
    from lm_eval.models.openai_completions import LocalCompletionsAPI
    from lm_eval.tasks import TaskManager
    sys.modules.pop("torch", None)  # datasets would ask it for types
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{task}.jsonl"
        file.write_text("".join(json.dumps(r) + "\n" for r in rows))
        config = {"task": task, "dataset_path": "json", "dataset_name": None, "training_split": None,
                  "validation_split": None, "test_split": None, f"{split}_split": split,
                  "dataset_kwargs": {"data_files": {split: str(file)}}}
        client = LocalCompletionsAPI(base_url=url + "/v1/completions", model=name, tokenizer=model, max_length=2048,
                                     num_concurrent=concurrent, batch_size=1 if concurrent > 1 else 4)
        result = lm_eval.evaluator.simple_evaluate(model=client, tasks=[config], limit=limit, task_manager=TaskManager(),
                                                   bootstrap_iters=10)
    return result["results"][task], [s["filtered_resps"] for s in result["samples"][task]]


def native_rows(program, model, data, task, limit):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([program, "eval", model, "--tasks", task, "--data", str(data), "--limit", str(limit),
                        "--allow-partial", "--output", folder], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        rows = json_lines(next(Path(folder).rglob(f"samples_{task}*.jsonl")))
        result = json.loads(next(Path(folder).rglob("results_*.json")).read_text())
    return result["results"][task], [r["filtered_resps"] for r in rows]


def lm_eval_checks(url, name, o):
    for task, (split, rows) in documents(o.data).items():
        native, ours = native_rows(o.program, o.model, o.data, task, o.limit)
        for concurrent in (1, 4):
            result, theirs = lm_eval_rows(url, name, o.model, task, split, rows, o.limit, concurrent)
            pairs = [(float(a[0]), float(b[0]), str(a[1]) == str(b[1]))
                     for x, y in zip(theirs, ours) for a, b in zip(x, y)]
            worst = max(abs(a - b) for a, b, _ in pairs)
            expect(len(theirs) == len(ours) == o.limit and worst < 1e-3 and all(same for *_, same in pairs),
                   f"lm-eval local-completions, {task}, {concurrent} at once: {len(pairs)} log-likelihoods of {o.limit} "
                   f"documents, largest difference to `qwerky eval` {worst:.1e}, all greedy flags equal")
            for metric in ("acc,none", "acc_norm,none", "perplexity,none"):
                if metric in result:  # perplexity is of the log-likelihoods, which differ by as much as was said
                    same = abs(result[metric] / native[metric] - 1) < 1e-3 if "perp" in metric else result[metric] == native[metric]
                    expect(same, f"{task} {metric}: {result[metric]} and {native[metric]}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("program")
    p.add_argument("model")
    p.add_argument("data", type=Path)
    p.add_argument("--limit", type=int, default=20)
    p.add_argument("--chat-template")
    o = p.parse_args()
    command = [o.program, "serve", o.model, "--port", "0", "--quiet", "--name", "m"]
    if o.chat_template:
        command += ["--chat-template", o.chat_template]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = server.stdout.readline().strip()
        with urllib.request.urlopen(url + "/v1/models") as models:
            chat = json.load(models)["data"][0]["qwerky"]["chat"]
        openai_checks(url, chat)
        lm_eval_checks(url, "m", o)
    finally:
        server.terminate()
        server.wait()
    expect(server.returncode == 0, "the server ends when told to")


main()
