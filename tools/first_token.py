#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Time to the first token of a chat with a long history: read cold, in the next turn, and after a restart from disk.

    python3 tools/first_token.py build/qwerky MODEL [--words 3000]

Starts the server itself, with a folder for states. Prints prompt tokens, tokens that needed no reading, and milliseconds.
"""
import argparse
import json
import subprocess
import tempfile
import urllib.request


def start(o, folder):
    server = subprocess.Popen([o.program, "serve", o.model, "--port", "0", "--quiet", "--state-dir", folder],
                              stdout=subprocess.PIPE, text=True)
    return server, server.stdout.readline().strip()


def stop(server):
    server.terminate()
    server.wait()


def post(url, route, body):
    request = urllib.request.Request(url + route, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def ask(url, name, messages, **more):
    out = post(url, "/v1/chat/completions", {"messages": messages, "max_tokens": 16, "temperature": 0, **more})
    usage, timings = out["usage"], out["timings"]
    print(f"{name:32} {usage['prompt_tokens']:6} prompt tokens, {usage['prompt_tokens_details']['cached_tokens']:6} kept, "
          f"first token after {timings['first_token_ms']:9.2f} ms")
    return out["choices"][0]["message"]["content"]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("program")
    p.add_argument("model")
    p.add_argument("--words", type=int, default=3000)
    o = p.parse_args()
    sentence = "The little fox went to the park and saw a big red ball . "
    history = sentence * (o.words // len(sentence.split()))
    with tempfile.TemporaryDirectory() as folder:
        server, url = start(o, folder)
        ask(url, "warm-up", [{"role": "user", "content": "Hello"}])
        messages = [{"role": "user", "content": history}]
        messages.append({"role": "assistant", "content": ask(url, "cold", messages)})
        messages.append({"role": "user", "content": " The next day , the fox"})
        ask(url, "second turn", messages)
        ask(url, "second turn, cache_prompt false", messages, cache_prompt=False)
        post(url, "/state", {"action": "save", "name": "history", "messages": messages[:2]})
        stop(server)
        server, url = start(o, folder)
        ask(url, "warm-up after the restart", [{"role": "user", "content": "Hello"}])
        ask(url, "second turn after the restart", messages)
        ask(url, "named state after the restart", messages[2:], state="history")
        stop(server)


main()
