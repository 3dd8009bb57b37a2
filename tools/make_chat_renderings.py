#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Records what Jinja2 makes of chat templates: tests/golden/chat_templates.json, which tests/chat_template_test.cc holds
src/io/chat_template against, byte for byte.

    pip install jinja2==3.1.6
    python3 tools/make_chat_renderings.py ../shared/data/tokenizers >tests/golden/chat_templates.json

The environment is that of transformers' apply_chat_template (utils/chat_template_utils.py): ImmutableSandboxedEnvironment
with trim_blocks and lstrip_blocks, loop controls, {% generation %}, its own tojson, raise_exception and strftime_now.
Templates of models are named by file (they are data, not part of this repository); those of chat_template_cases.py
lie in the result.
"""
import datetime
import json
import pathlib
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

from chat_template_cases import CONVERSATIONS, DATA, EXPRESSIONS, TEMPLATES, UNSUPPORTED

NOW = 1721995200  # Friday, 26 July 2024, 12:00:00 UTC


class Generation(jinja2.ext.Extension):
    """{% generation %} marks the assistant's tokens for training; here it only prints its body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(format):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).strftime(format)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


ENV = environment()


def rendering(source, context):
    """The text, or what was raised: {"error": message}."""
    try:
        text = ENV.from_string(source).render(**context)
        text.encode()
        return text
    except Exception as e:  # any exception is a refusal
        return {"error": f"{type(e).__name__}: {e}"}


def shared_templates(root):
    for path in sorted((root / "chat_templates").glob("*.jinja")):
        yield path, path.read_text()
    for name in ("qwen", "qwen3", "qwen3_2507"):
        path = root / "qwen" / name / "tokenizer_config.json"
        yield path, json.loads(path.read_text())["chat_template"]


def main():
    root = pathlib.Path(sys.argv[1])
    out = {"made_with": f"Jinja2 {jinja2.__version__}", "now": NOW,
           "conversations": [{"name": name, "context": context} for name, context in CONVERSATIONS.items()],
           "data": DATA, "models": [], "language": [], "unsupported": []}
    for path, source in shared_templates(root):
        out["models"].append({"file": str(path.relative_to(root)),
                              "renderings": [rendering(source, context) for context in CONVERSATIONS.values()]})
    for expression in EXPRESSIONS:
        source = "{{ " + expression + " }}"
        out["language"].append({"template": source, "rendering": rendering(source, DATA)})
    for source in TEMPLATES:
        out["language"].append({"template": source, "rendering": rendering(source, DATA)})
    for source in UNSUPPORTED:
        text = rendering(source, DATA)
        assert isinstance(text, str), (source, text)
        out["unsupported"].append(source)
    assert not any(" at 0x" in str(case["rendering"]) for case in out["language"] if isinstance(case["rendering"], str))
    failed = sum(not isinstance(r, str) for m in out["models"] for r in m["renderings"])
    errors = sum(not isinstance(case["rendering"], str) for case in out["language"])
    print(f"models: {sum(len(m['renderings']) for m in out['models'])} renderings, {failed} refused; "
          f"language: {len(out['language'])} cases, {errors} refused; unsupported: {len(out['unsupported'])}", file=sys.stderr)
    json.dump(out, sys.stdout, ensure_ascii=False, indent=0)
    print()


main()
