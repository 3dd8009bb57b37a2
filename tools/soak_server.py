#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds `qwerky serve` under load: many streams at once, slow readers, clients that leave.

    python3 tools/soak_server.py build/qwerky MODEL [--streams 256] [--seconds 600] [--tokens 64]

Every answer is compared with that of the same request alone. Prints requests, the slowest /health, memory of the server
before and after, and ends with status 1 when an answer differs, a request fails, or memory grew by more than a tenth.
"""
import argparse
import asyncio
import json
import multiprocessing
import random
import socket
import subprocess
import sys
import time


def memory(pid):  # MiB resident
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) / 1024


def body_of(number, tokens):
    prompt = f"Story {number}: once upon a time there was a {['fox', 'bear', 'girl', 'boat'][number % 4]} who"
    return {"prompt": prompt, "seed": number, "temperature": 0.9, "top_p": 0.95, "max_tokens": tokens, "stream": True}


async def request(port, body, slow=False, leave_after=None):
    """The text, or None where the client left."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096 if slow else 2**16)
    try:
        data = json.dumps(body).encode()
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        text, events = "", 0
        while True:
            line = (await reader.readline()).decode()
            if not line:
                raise RuntimeError("the connection ended before the answer")
            if line.startswith("HTTP/1.1") and " 200 " not in line:
                raise RuntimeError(line.strip())
            if not line.startswith("data: "):
                continue
            if line.startswith("data: [DONE]"):
                return text
            part = json.loads(line[6:])
            if "error" in part:
                raise RuntimeError(part["error"]["message"])
            text += "".join(c["text"] for c in part["choices"])
            events += 1
            if leave_after is not None and events >= leave_after:
                return None
            if slow:
                await asyncio.sleep(0.02)
    finally:
        writer.close()


def health(port, seconds, pipe):
    """In a process of its own: the event loop of the clients is late when it is busy with 256 streams."""
    until, times = time.monotonic() + seconds, []
    while time.monotonic() < until:
        start = time.monotonic()
        with socket.create_connection(("127.0.0.1", port)) as s:
            s.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            answer = b""
            while part := s.recv(4096):
                answer += part
        times.append(time.monotonic() - start)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        time.sleep(0.05)
    pipe.send(times)


async def soak(port, pid, o):
    expected = {n: await request(port, body_of(n, o.tokens)) for n in range(32)}
    counts = {"whole": 0, "slow": 0, "left": 0}
    wrong = []

    async def client(number, until):
        rng = random.Random(number)
        while time.monotonic() < until and not wrong:
            n, kind = rng.randrange(len(expected)), rng.choice(["whole", "whole", "slow", "left"])
            leave = rng.randrange(o.tokens // 2) if kind == "left" else None
            try:
                text = await request(port, body_of(n, o.tokens), kind == "slow", leave)
            except Exception as error:
                wrong.append(f"{kind}: {error!r}")
                continue
            if text is not None and text != expected[n]:
                wrong.append(f"request {n}: {text!r}, alone {expected[n]!r}")
            counts[kind] += 1

    async def run(seconds):
        until = time.monotonic() + seconds
        here, there = multiprocessing.Pipe()
        probe = multiprocessing.Process(target=health, args=(port, seconds, there))
        probe.start()
        there.close()
        await asyncio.gather(*(client(i, until) for i in range(o.streams)))
        times = await asyncio.to_thread(here.recv)
        probe.join()
        return sorted(times)

    await run(min(30, o.seconds / 5))  # until caches and buffers have their size
    before = memory(pid)
    times = await run(o.seconds)
    after = memory(pid)
    print(f"{o.streams} streams for {o.seconds} s: {counts}")
    late = times[len(times) * 99 // 100]
    print(f"/health, {len(times)} times: median {times[len(times) // 2] * 1e3:.1f} ms, 99 of 100 below {late * 1e3:.1f} ms, slowest {times[-1] * 1e3:.1f} ms")
    print(f"memory: {before:.1f} MiB, then {after:.1f} MiB")
    for line in wrong[:10]:
        print("WRONG " + line)
    return 1 if wrong or after > 1.1 * before else 0


def main():
    p = argparse.ArgumentParser()
    p.add_argument("program")
    p.add_argument("model")
    p.add_argument("--streams", type=int, default=256)
    p.add_argument("--seconds", type=float, default=600)
    p.add_argument("--tokens", type=int, default=64)
    o = p.parse_args()
    server = subprocess.Popen([o.program, "serve", o.model, "--port", "0", "--quiet", "--queue", "1024", "--state-cache",
                               "64MiB"], stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline().rsplit(":", 1)[1])
        return asyncio.run(soak(port, server.pid, o))
    finally:
        server.terminate()
        server.wait()


sys.exit(main())
