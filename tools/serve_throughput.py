#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tokens a second through `qwerky serve` against the number of streams, beside `qwerky bench` of the same model.

    python3 tools/serve_throughput.py build/qwerky MODEL [--streams 1 2 4 8 16 32 64] [--tokens 128] [--prompt 16]

Starts the server itself. For each N, N completions are streamed at once, greedily, each of --tokens tokens (none may end
its text), after N that are not measured. A stream's rate is that of its tokens after the first, the median is shown; the
total is the tokens of all but the first of each, over the time from the first of them to the end of the last stream, as
the client sees them. The row of `bench` is measured in the same minutes: the decoder and the likeliest token alone,
without server, sampler or client.
"""
import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time


async def stream(port, body):
    """When the first text arrived, and when all was there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = json.dumps(body).encode()
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
    first, last, tokens = None, None, 0
    async for line in reader:
        if line.startswith(b"data: [DONE]"):
            break
        if not line.startswith(b"data: "):
            if line.startswith(b"HTTP/1.1") and b" 200 " not in line:
                raise RuntimeError((line + await reader.read(4096)).decode())
            continue
        last = time.monotonic()
        first = first or last
        part = json.loads(line[6:])
        if "error" in part:
            raise RuntimeError(part["error"]["message"])
        tokens = (part.get("usage") or {}).get("completion_tokens", tokens)
    writer.close()
    if tokens != body["max_tokens"]:
        raise RuntimeError(f"expected {body['max_tokens']} tokens, found {tokens}")
    return first, last


async def measure(port, count, o, ends):
    body = {"temperature": 0, "max_tokens": o.tokens, "stream": True, "stream_options": {"include_usage": True},
            "cache_prompt": False, "logit_bias": {str(end): -100 for end in ends}}
    # Prompts of their own: token ids that every vocabulary has.
    bodies = [{**body, "prompt": [(7 * i + 3 * k) % 200 + 20 for k in range(o.prompt)]} for i in range(count)]
    streams = await asyncio.gather(*(stream(port, b) for b in bodies))
    seconds = max(last for _, last in streams) - min(first for first, _ in streams)
    return count * (o.tokens - 1) / seconds, statistics.median((o.tokens - 1) / (last - first) for first, last in streams)


def bench(o):
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        subprocess.run([o.program, "bench", o.model, "--prefill", "16", "--depths", str(o.prompt), "--batches",
                        ",".join(map(str, o.streams)), "--tokens", str(o.tokens), "--json", file.name],
                       stdout=subprocess.DEVNULL, check=True)
        result = json.load(open(file.name))
        return {row["batch"]: row["tokens_per_second"] for row in result["decode"]}


def ends_of(model):
    """Ids that end a text, by the files of the model."""
    ends = set()
    for name in ("config.json", "generation_config.json", "tokenizer.json"):
        path = os.path.join(model, name)
        if os.path.exists(path):
            with open(path) as f:
                found = json.load(f)
            eos = found.get("eos_token_id")
            ends |= set(eos if isinstance(eos, list) else [] if eos is None else [eos])
            ends |= {token["id"] for token in found.get("added_tokens", []) if token["content"] in ("<|endoftext|>", "<|im_end|>", "</s>")}
    return ends


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("program")
    p.add_argument("model", help="a model directory")
    p.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    p.add_argument("--tokens", type=int, default=128)
    p.add_argument("--prompt", type=int, default=16, help="tokens of each prompt")
    o = p.parse_args()
    ends = ends_of(o.model)
    alone = bench(o)
    server = subprocess.Popen([o.program, "serve", o.model, "--port", "0", "--quiet", "--parallel", str(max(o.streams))],
                              stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline().rsplit(":", 1)[1])
        print("| streams | tokens/s, all | tokens/s, each | `bench`, same batch | of `bench` |\n|---|---|---|---|---|")
        for count in o.streams:
            asyncio.run(measure(port, count, o, ends))
            total, each = asyncio.run(measure(port, count, o, ends))
            print(f"| {count} | {total:.1f} | {each:.1f} | {alone[count]:.1f} | {100 * total / alone[count]:.0f} % |", flush=True)
    finally:
        server.terminate()
        server.wait()


sys.exit(main())
