#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A server that speaks as `qwerky serve` does to its page, without a model: for page_test.py and for work on the page.

    tests/page/mock_server.py [--port 8090] [--prefix /p] [--key KEY] [--alone] [--bare]

What the last message begins with says how the answer goes: `markdown`, `hostile`, `long`, `error`, `broken`, `cut`, `limit`, `twin`
(both models answer the same); else a sentence that names the seed. The models differ from the seventh word on.
"""
import argparse
import base64
import hashlib
import json
import pathlib
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WEB = pathlib.Path(__file__).resolve().parents[2] / "web"
STATE_BYTES, KV_BYTES_PER_TOKEN = 98304, 1536
MODELS = [{"id": "stories-rwkv7", "qwerky": {"constant_state": True, "state_bytes": STATE_BYTES, "context": 0}},
          {"id": "stories-teacher", "qwerky": {"constant_state": False, "state_bytes": KV_BYTES_PER_TOKEN, "context": 2048}}]
for model in MODELS:
    model["qwerky"]["kv_cache_bytes_per_token"] = KV_BYTES_PER_TOKEN
# A request with any other field is refused by name.
FIELDS = set("""model messages stream stream_options temperature top_p top_k min_p typical_p max_tokens seed presence_penalty frequency_penalty
    repetition_penalty penalty_window dry_multiplier dry_base dry_allowed_length xtc_probability xtc_threshold mirostat mirostat_tau mirostat_eta""".split())
HOSTILE = "<img src=x onerror=\"window.harmed=1\"> **<script>window.harmed=1</script>** `<b>`\n\n```html\n<iframe src=javascript:window.harmed=1></iframe>\n```\n" \
          "- <svg onload=window.harmed=1>\n- [link](javascript:window.harmed=1)"
MARKDOWN = """## What changes

A student keeps **everything but the mixer**: embedding, *norms*, MLP and head. So:

1. copy the weights
2. align each mixer
   - on the teacher's `inputs`
   - layer by layer
3. match the logits

```cpp
for (int t = 0; t < T; ++t)
  S = S * diag(w[t]) + outer(v[t], k[t]);  // one state, whatever T is
```

Unclosed **marks and 2 * 3 * 4 stay as they are."""


def whole_page():
    """web/index.html with its parts, as src/serve/CMakeLists.txt joins them."""
    return re.sub(r"^@(.+)@\n", lambda part: (WEB / part[1]).read_text(), (WEB / "index.html").read_text(), flags=re.M)


def policy(page):
    """What the page needs, by the hashes of its one <style> and one <script>."""
    def source(tag):
        digest = hashlib.sha256(re.search(rf"<{tag}>(.*?)</{tag}>", page, re.S).group(1).encode()).digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"
    return (f"default-src 'none'; script-src {source('script')}; style-src {source('style')}; connect-src 'self'; img-src data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")


def answer(model, messages, seed):
    """The pieces of an answer, as a model's tokens."""
    asked = messages[-1]["content"]
    kind = asked.split()[0].lower() if asked.split() else ""
    if kind == "markdown":
        text = MARKDOWN
    elif kind == "hostile":
        text = HOSTILE
    elif kind == "long":
        text = " ".join(f"word{i}" for i in range(4000))
    elif kind == "twin":
        text = f"Both of us say this, with seed {seed}."
    else:
        place = "sky" if "teacher" in model else "park, under the old oak tree"
        turn = sum(m["role"] == "user" for m in messages)
        text = (f"One day a girl saw a big red ball in the {place}. She wanted to play with it, but it was too high for her. "
                f"So she asked her friend, and they found a ladder. This is answer {turn}, written with seed {seed}.")
    return re.findall(r"\s*\S+|\s+$", text)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body, kind="application/json", headers=()):
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, message, headers=()):
        self.reply(status, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}, headers=headers)

    def route(self):
        """The path behind the prefix, or None when it was answered already."""
        path = self.path.split("?")[0]
        if not path.startswith(self.server.prefix + "/"):
            self.refuse(404, f"no such path: {path}")
            return None
        path = path[len(self.server.prefix):]
        if path != "/" and self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            self.refuse(401, "the API key is missing or wrong: expected Authorization: Bearer KEY")
            return None
        return path

    def do_GET(self):
        path = self.route()
        if path == "/":
            page = whole_page()
            self.reply(200, page, "text/html; charset=utf-8", [("Content-Security-Policy", policy(page))])
        elif path == "/v1/models":
            if self.server.loading > 0:
                self.server.loading -= 1
                self.refuse(503, "the model is loading")
            else:
                self.reply(200, {"object": "list", "data": self.server.models})
        elif path is not None:
            self.refuse(404, f"no such path: {path}")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = self.route()
        if path is None:
            return
        unknown = sorted(set(body) - FIELDS)
        if path != "/v1/chat/completions" or unknown:
            self.refuse(404 if not unknown else 400, f"no such path: {path}" if not unknown else f"unknown field: {unknown[0]}")
            return
        if body.get("temperature", 1) < 0:
            self.refuse(400, f"temperature: expected a number from 0 to 100, found {body['temperature']}")
            return
        self.server.requests.append(body)
        kind = body["messages"][-1]["content"].split()[0].lower()
        if kind == "error":
            self.refuse(429, "the queue is full: 256 requests wait", [("Retry-After", "3")])
            return
        self.stream(body, kind)

    def stream(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        started = time.monotonic()
        read = len(" ".join(m["content"] for m in body["messages"]).split()) + 4 * len(body["messages"])
        cached = len(" ".join(m["content"] for m in body["messages"][:-1]).split()) + 4 * (len(body["messages"]) - 1)
        pieces = answer(body["model"], body["messages"], body.get("seed"))
        if kind == "limit":
            pieces = pieces[:body.get("max_tokens", 8)]
        finish = "length" if kind == "limit" else "stop"
        written = 0
        try:
            time.sleep(self.server.delay * 4)  # the prompt is read
            first = time.monotonic()
            self.event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
            for piece in pieces:
                self.event({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
                written += 1
                if written == 5 and kind == "broken":
                    self.event({"error": {"message": "the state cache ran out of memory"}})
                    return
                if written == 5 and kind == "cut":
                    return
                time.sleep(self.server.delay)
            last = {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
            if not self.server.bare:
                milliseconds, held = 1000 * (first - started), KV_BYTES_PER_TOKEN * (read + written)
                last["timings"] = {"first_token_ms": milliseconds, "prompt_ms": milliseconds, "tokens_per_second": written / (time.monotonic() - first),
                                   "state_bytes": held if "teacher" in body["model"] else STATE_BYTES, "kv_cache_bytes": held}
            self.event(last)
            if not self.server.bare:
                self.event({"choices": [], "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written,
                                                     "prompt_tokens_details": {"cached_tokens": cached}}})
            self.wfile.write(b"data: [DONE]\n\n")
        except (BrokenPipeError, ConnectionResetError):
            self.server.left.append(written)

    def event(self, value):
        self.wfile.write(b"data: " + json.dumps(value).encode() + b"\n\n")
        self.wfile.flush()


def start(port=0, prefix="", key=None, alone=False, bare=False, delay=0.01, loading=0):
    """A server on a thread; its address is server.url, what it was asked is in server.requests, whom it lost in server.left."""
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.prefix, server.key, server.bare, server.delay, server.loading = prefix, key, bare, delay, loading
    server.models = [{k: v for k, v in model.items() if k == "id" or not bare} for model in (MODELS[:1] if alone else MODELS)]
    server.requests, server.left = [], []
    server.url = f"http://127.0.0.1:{server.server_port}{prefix}/"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--prefix", default="", help="path in front of everything, as behind a proxy")
    parser.add_argument("--key", help="asked for on every path but the page")
    parser.add_argument("--alone", action="store_true", help="the student alone")
    parser.add_argument("--bare", action="store_true", help="nothing beyond OpenAI's fields, and no usage")
    parser.add_argument("--delay", type=float, default=0.03, help="seconds for each token")
    server = start(**vars(parser.parse_args()))
    print(server.url, flush=True)
    threading.Event().wait()
