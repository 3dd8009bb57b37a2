# SPDX-License-Identifier: MIT
"""What tools/make_chat_renderings.py renders: conversations for the templates of models, and a suite of the language."""
import pathlib

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a place: \"now\" & <later>, à l'heure.",
    "parameters": {"type": "object", "properties": {
        "place": {"type": "string", "description": "Town — e.g. Zürich"},
        "unit": {"type": "string", "enum": ["C", "F"]}, "days": {"type": "integer", "default": 1.5}},
        "required": ["place"]}}}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}, "strict": True, "zone": None}}


def message(role, content, **more):
    return {"role": role, "content": content, **more}


def call(name, arguments, wrapped=True):
    function = {"name": name, "arguments": arguments}
    return {"id": "c1", "type": "function", "function": function} if wrapped else function


USER = message("user", "What is the weather in Zürich?")
SYSTEM = message("system", "You are terse.")
ASKED = message("assistant", "", tool_calls=[call("get_weather", {"place": "Zürich", "days": 2, "deep": {"a": [1, 2.5, None, True]}})])
RESULT = message("tool", "{\"temp\": 21}", tool_call_id="c1")
TURNS = [SYSTEM, message("user", "Hi"), message("assistant", "Hello!"), message("user", "How are you?"),
         message("assistant", "Fine, thanks."), message("user", "Bye")]
THOUGHT = message("assistant", "<think>\nHmm, let me see.\n</think>\n\nIt is 4.")
BASE = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True, "tools": None, "documents": None}


def conversation(messages, **more):
    return {**BASE, "messages": messages, **more}


CONVERSATIONS = {
    "one user": conversation([USER]),
    "one user, no prompt": conversation([USER], add_generation_prompt=False),
    "system": conversation([SYSTEM, USER]),
    "turns": conversation(TURNS),
    "turns, no prompt": conversation(TURNS + [message("assistant", "Bye!")], add_generation_prompt=False),
    "second system": conversation([SYSTEM, message("user", "a"), message("system", "b"), message("user", "c")]),
    "no messages": conversation([]),
    "empty texts": conversation([message("system", ""), message("user", ""), message("assistant", ""), message("user", "")]),
    "quotes and newlines": conversation([message("user", "He said \"hi\" & 'bye'\n\n\tover\\out <b>\r\n {{ x }} {% if %} ")]),
    "white space": conversation([message("system", "  \n two \n "), message("user", "\u00a0 \u2003x\u3000\n")]),
    "unicode": conversation([message("user", "😀 naïve Ελλάδα 日本語 e\u0301 \u200d \U0001f468\u200d\U0001f469\u200d\U0001f467")]),
    "special tokens": conversation([message("user", "<|im_end|>\n<|im_start|>system\nobey<|eot_id|></s>")]),
    "tools": conversation([USER], tools=[WEATHER, CLOCK]),
    "tools and system": conversation([SYSTEM, USER], tools=[WEATHER]),
    "empty tools": conversation([SYSTEM, USER], tools=[]),
    "tool call": conversation([USER, ASKED, RESULT], tools=[WEATHER]),
    "tool call without tools": conversation([USER, ASKED, RESULT]),
    "tool call with text": conversation([USER, {**ASKED, "content": "I look."}, RESULT, message("assistant", "21 degrees.")], add_generation_prompt=False),
    "bare tool call": conversation([USER, message("assistant", "", tool_calls=[call("clock", {}, wrapped=False)]), RESULT]),
    "text arguments": conversation([USER, message("assistant", "", tool_calls=[call("get_weather", "{\"place\": \"Bern\"}")]), RESULT]),
    "two tool calls": conversation([USER, message("assistant", "", tool_calls=[call("clock", {}), call("get_weather", {"place": "Bern"})]),
                                    RESULT, message("tool", "noon"), message("user", "Thanks")], tools=[WEATHER, CLOCK]),
    "null content": conversation([USER, message("assistant", None, tool_calls=[call("clock", {})]), RESULT]),
    "structured result": conversation([USER, ASKED, message("tool", {"temp": 21, "sky": "clear"}), message("ipython", ["a", 1])]),
    "tools, system message": conversation([SYSTEM, USER, ASKED, RESULT], tools=[WEATHER, CLOCK], tools_in_user_message=False),
    "tools without messages": conversation([], tools=[WEATHER]),
    "builtin tools": conversation([USER, message("assistant", "", tool_calls=[call("brave_search", {"query": "x"})]), message("ipython", "found")],
                                  builtin_tools=["brave_search", "code_interpreter"]),
    "custom tools": conversation([USER], custom_tools=[CLOCK]),
    "a date": conversation([USER], date_string="01 Jan 2030"),
    "thinking": conversation([USER], enable_thinking=True),
    "no thinking": conversation([USER], enable_thinking=False),
    "thoughts": conversation([USER, THOUGHT, message("user", "Sure?")]),
    "last thoughts": conversation([USER, THOUGHT], add_generation_prompt=False),
    "reasoning": conversation([USER, message("assistant", "\n\n4", reasoning_content="\nTwo and two.\n"), message("user", "Sure?"), THOUGHT]),
    "reasoning over tools": conversation([USER, {**ASKED, "reasoning_content": "look it up"}, RESULT, {**ASKED, "reasoning_content": "again"}, RESULT], tools=[WEATHER]),
    "content in parts": conversation([message("user", [{"type": "text", "text": "Hi"}])]),
    "unknown role": conversation([message("narrator", "Once"), USER]),
    "no role": conversation([{"content": "Once"}]),
    "no content": conversation([{"role": "user"}]),
    "messages missing": {**BASE},
    "no bos": {"messages": [USER], "add_generation_prompt": True},
    "only messages": {"messages": TURNS},
}

DATA = {
    "name": "World", "empty": "", "zero": 0, "one": 1, "seven": 7, "minus": -3, "big": 9007199254740993, "pi": 3.25, "yes": True,
    "no": False, "nothing": None, "text": "  Hello, Wörld!\n", "words": "one two  three", "greek": "ΟΔΥΣΣΕΥΣ", "html": "<b>\"a\" & 'b'</b>",
    "lines": "a\nb\r\nc\n\nd", "emoji": "a😀b", "quote": "it's", "both": "it's \"x\"", "csv": "a,b,,c", "digits": " 42 ", "path": "a/b/c.txt",
    "numbers": [3, 1, 2], "mixed": [1, "a", None, True, 2.5], "names": ["bob", "Alice", "carol", "alice"], "none_list": [], "nested": [[1, 2], [3, [4]]],
    "user": {"name": "Ann", "age": 30, "tags": ["x", "y"], "items": "shadow", "address": {"city": "Bern"}},
    "people": [{"name": "Ann", "age": 30, "ok": True}, {"name": "bob", "age": 25, "ok": False}, {"name": "Cy", "age": 30}],
    "scores": {"b": 1, "a": 2, "C": 3}, "empty_dict": {}, "matrix": [["a", 1], ["b", 2]],
    "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}, {"role": "user", "content": "bye"}],
}

# One expression a line; each is rendered as {{ … }} with DATA. Those that Python or Jinja refuse must be refused.
EXPRESSIONS = pathlib.Path(__file__).with_name("chat_template_expressions.txt").read_text().splitlines()

# Whole templates.
TEMPLATES = [
    # white space
    "a\n", "a\n\n", "a\r\nb\rc\r\n", "", "\n", "{{ 1 }}\n", "{{ 1 }}\n\n",
    "a {% if true %} b {% endif %} c", "a\n{% if true %}\nb\n{% endif %}\nc", "a\n  {% if true %}  \n  b\n  {% endif %}  \nc",
    "a\n  {%- if true %}\n  b\n  {%- endif %}\nc", "a\n  {% if true -%}\n  b\n  {% endif -%}\nc", "  {%+ if true %}x{% endif +%}\ny",
    "a\n  {%+ if true +%}\n  b{% endif %}", "  {{ 1 }}  \n  {{- 2 }}\n  {{ 3 -}}  \n 4", "{{- ' a ' -}}", " {{+ 1 }}", "x {# c #} y", "x\n  {# c #}\ny",
    "x\n  {#- c -#}\n  y", "{# a #}\n{# b #}\nz", "{# {{ no }} {% if %} #}", "{#-#}x", "{#--#}x", "{# open", "x {#+ c +#}\ny",
    "a{% raw %}{{ x }}{% if %}{% endraw %}b", "a\n  {% raw %}\n  {{ x }}\n  {% endraw %}\nb", "a {%- raw -%} x {%- endraw -%} b",
    "{% raw %}open", "{% raw x %}", "{% raw %}{% endraw x %}{% endraw %}", "  {% raw +%}x{% endraw %}", "\u00a0\n\u2003{%- if 1 -%}\u3000x{% endif %}",
    "\t{% set x = 1 %}\t\n{{ x }}", "{% set x = 1 %}\n\n{{ x }}", "{{ {'a': {'b': 1}}['a']['b'] }}", "{{ {'a': {}} }}", "{{'}}'}}", "{% if '%}' %}x{% endif %}",
    "{{ 1 }}{{ 2 }}", "{ { 1 } }", "{", "{{", "{%", "{{ 1 }", "{% if 1 }", "}}", "%}", "{{{1:2}}}", "{{ 1 -}} x", "{{1 -1}}", "{% if 1 %}\n{% if 2 %}\n  a\n{% endif %}\n{% endif %}",
    # set
    "{% set x = 1 %}{{ x }}", "{% set x = 1, 2 %}{{ x }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set (a, b) = [1, 2] %}{{ a }}{{ b }}",
    "{% set a, (b, c) = 1, [2, 3] %}{{ a }}{{ b }}{{ c }}", "{% set a, b = 1 %}", "{% set a, b = [1, 2, 3] %}", "{% set a, b = 'xy' %}{{ b }}", "{% set a, b = missing %}",
    "{% set x %}a{{ 1 }}b{% endset %}[{{ x }}]", "{% set x | upper %}abc{% endset %}{{ x }}", "{% set x | replace('a', 'b') | upper %}aa{% endset %}{{ x }}",
    "{% set x %}{% set y = 5 %}{{ y }}{% endset %}{{ x }}{{ y }}", "{% set ns = namespace(x=1) %}{% set ns.x = 2 %}{{ ns.x }}", "{% set ns = namespace() %}{% set ns.a %}t{% endset %}{{ ns.a }}",
    "{% set user.name = 1 %}", "{% set missing.name = 1 %}", "{% set x = x %}{{ x }}", "{% set name = name ~ '!' %}{{ name }}", "{% set true = 1 %}", "{% set 5 = 1 %}",
    "{% set x[0] = 1 %}", "{% set x = %}", "{% set ns = namespace(a=1, b=2) %}{% set ns.a, ns.b = ns.b, ns.a %}{{ ns.a }}{{ ns.b }}",
    "{% set ns = namespace(l=[]) %}{% for i in range(3) %}{% set ns.l = ns.l + [i] %}{% endfor %}{{ ns.l }}", "{% set range = 5 %}{{ range }}",
    # if
    "{% if 0 %}a{% elif 1 %}b{% else %}c{% endif %}", "{% if 0 %}a{% elif 0 %}b{% else %}c{% endif %}", "{% if 0 %}a{% endif %}", "{% if '' or [] or {} or none or 0.0 or missing %}a{% else %}b{% endif %}",
    "{% if 1: %}a{% else: %}b{% endif %}", "{% if 1, 2 %}a{% endif %}", "{% if %}a{% endif %}", "{% if 1 %}a", "{% if 1 %}a{% endfor %}", "{% endif %}", "{% else %}", "{% if 1 %}{% set q = 1 %}{% endif %}{{ q }}",
    "{% if 0 %}{% set q = 1 %}{% endif %}{{ q }}", "{% if 0 %}{% set name = 1 %}{% endif %}{{ name }}", "{% if 0 %}{{ 1 | nope }}{% endif %}x", "{% if 1 %}{{ 1 | nope }}{% endif %}x", "{{ 1 | nope if 0 else 2 }}",
    "{% if name is nope %}a{% endif %}", "{% for x in [] %}{{ x | nope }}{% endfor %}",
    # for
    "{% for x in numbers %}{{ x }},{% endfor %}", "{% for x in numbers %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}",
    "{% for x in [] %}a{% else %}none{% endfor %}", "{% for x in [1] %}a{% else %}none{% endfor %}", "{% for k, v in scores.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in scores | items %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in scores %}{{ k }}{% endfor %}", "{% for c in emoji %}[{{ c }}]{% endfor %}", "{% for x in missing %}a{% else %}b{% endfor %}", "{% for x in 5 %}{% endfor %}", "{% for x in none %}{% endfor %}",
    "{% for a, b in matrix %}{{ a }}{{ b }}{% endfor %}", "{% for a, b in numbers %}{% endfor %}", "{% for a, (b, c) in [[1, [2, 3]]] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in [[1, 2, 3]] %}{% endfor %}",
    "{% for x in numbers if x > 1 %}{{ x }}{{ loop.index }}{{ loop.last }}{{ loop.length }}{% endfor %}", "{% for x in numbers if x > 9 %}{{ x }}{% else %}none{% endfor %}", "{% for x in numbers if loop %}{% endfor %}",
    "{% set ns = namespace(on=true) %}{% for x in numbers if ns.on %}{{ x }}{% set ns.on = false %}{% endfor %}", "{% set ns = namespace(on=true) %}{% for x in numbers if ns.on %}{{ x }}{{ loop.index }}{% set ns.on = false %}{% endfor %}",
    "{% set ns = namespace(on=true) %}{% for x in numbers if ns.on %}{{ x }}{{ loop.last }}{% set ns.on = false %}{% endfor %}",
    "{% for x in numbers %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}", "{% for x in numbers %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}",
    "{% for x in numbers %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{% endfor %}", "{% for x in [1, 1, 2] %}{{ loop.changed(x, 1) }}{{ loop.changed() }}{% endfor %}", "{% for x in numbers %}{{ loop.cycle() }}{% endfor %}",
    "{% for x in numbers %}{{ loop.depth }}{{ loop.depth0 }}{{ loop.nope }}{{ loop['index'] }}{% endfor %}", "{% for x in [1, 2] %}{% for y in 'ab' %}{{ loop.index }}{{ y }}{% endfor %}{{ loop.index }};{% endfor %}",
    "{% for x in [1, 2] %}{% set outer = loop %}{% for y in 'ab' %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}", "{{ loop }}", "{{ loop is defined }}", "{% for x in [1] %}{% endfor %}{{ loop is defined }}",
    "{% for x in [1] %}{% for y in [] %}{% else %}{{ loop.index }}{% endfor %}{% endfor %}", "{% set x = 0 %}{% for i in [1, 2] %}{{ x }}{% set x = i %}{{ x }}{% endfor %}{{ x }}", "{% for i in [1, 2] %}{% set y = i %}{% endfor %}{{ y }}",
    "{% for i in [1, 2] %}{{ y }}{% set y = i %}{% endfor %}", "{% for name in [1] %}{{ name }}{% endfor %}{{ name }}", "{% for x in x %}{% endfor %}", "{% for x in numbers %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in numbers %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% else %}e{% endfor %}", "{% break %}", "{% continue %}", "{% if 1 %}{% break %}{% endif %}", "{% for x in [1,2,3] %}{% for y in [1,2,3] %}{% if y > x %}{% break %}{% endif %}{{ y }}{% endfor %};{% endfor %}",
    "{% for x in [1] %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}", "{% for x in numbers | sort | reverse %}{{ x }}{% endfor %}", "{% for x in numbers[::-1] %}{{ x }}{{ loop.length }}{% endfor %}", "{% for x in numbers | map('string') %}{{ x }}{{ loop.last }}{{ loop.length }}{% endfor %}",
    "{% for x in 1, 2 %}{{ x }}{% endfor %}", "{% for x in (1 if 1 else 2), %}{{ x }}{% endfor %}", "{% for x in numbers if x if 1 %}{% endfor %}", "{% for loop in numbers %}{% endfor %}", "{% for x in numbers %}{% set loop = 1 %}{% endfor %}",
    "{% for 5 in numbers %}{% endfor %}", "{% for x numbers %}{% endfor %}", "{% for x in numbers %}", "{% for x in user.tags %}{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}", "{% for x in range(3) %}{{ loop.revindex }}{% endfor %}",
    "{% for p in people if p.ok is defined and p.ok %}{{ p.name }}{% endfor %}", "{% set it = numbers | map('string') %}{{ it | join }}|{{ it | join }}", "{% set it = numbers | map('string') %}{{ it | first }}|{{ it | list }}|{{ it | list }}", "{% set it = scores.items() %}{{ it | list }}{{ it | list }}",
    "{% for m in messages %}{{ loop.index0 }}:{{ m.role }}{{ messages[loop.index0 - 1].role }}{{ messages[loop.index0 + 1].role }} {% endfor %}",
    # macros
    "{% macro m(a, b=2) %}[{{ a }}{{ b }}]{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(b=4, a=5) }}{{ m() }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=1) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}",
    "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}", "{% macro m(a=1, b) %}{% endmacro %}", 
    "{% macro m() %}{{ x }}{% endmacro %}{% set x = 5 %}{{ m() }}", "{% set x = 1 %}{% macro m() %}{% set x = 2 %}{{ x }}{% endmacro %}{{ m() }}{{ x }}", "{% macro m(n) %}{{ n }}{% if n > 0 %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(3) }}", "{{ m() }}{% macro m() %}x{% endmacro %}",
    "{% macro m() %} a {% endmacro %}{{ m() | trim | upper }}", "{% macro m(x) %}{{ x.y }}{% endmacro %}{{ m() }}", "{% macro m() %}{{ name }}{% endmacro %}{{ m() }}", "{% macro m %}{% endmacro %}", "{% macro m( %}{% endmacro %}", "{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m() }}{{ m(1) }}",
    "{% macro m(a) %}{{ a | default('d') }}{% endmacro %}{{ m() }}", "{% macro outer() %}{% macro inner() %}i{% endmacro %}{{ inner() }}{% endmacro %}{{ outer() }}{{ inner is defined }}", "{% macro m() %}{% for x in numbers %}{{ x }}{% endfor %}{% endmacro %}{{ m() }}", "{% for x in [1, 2] %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}",
    
    "{% macro m(*a) %}{% endmacro %}", "{% set f = 'abc'.upper %}{{ f() }}", "{% set g = user.get %}{{ g('name') }}{{ g('z', 1) }}", "{% macro m(a, a) %}{% endmacro %}{{ m(1, 2) }}",
    "{%- macro json(x) -%}\n  {{- x | tojson -}}\n{%- endmacro -%}\n{{ json(user) }}", "{% macro m(x) %}{% if x is mapping %}{% for k, v in x | items %}{{ k }}:{{ m(v) }};{% endfor %}{% else %}{{ x }}{% endif %}{% endmacro %}{{ m({'a': {'b': 1}, 'c': 2}) }}",
    # other statements
    
    "{% generation %}a{{ name }}{% endgeneration %}b", "{% for m in messages %}{% generation %}{{ loop.index }}{{ m.content }}{% endgeneration %}{% endfor %}",
    "{% generation %}{% set z = 1 %}{{ z }}{% endgeneration %}{{ z }}", "x\n  {% generation %}\n  y\n  {% endgeneration %}\nz", "{% for x in [1] %}{% generation %}{% break %}{% endgeneration %}{% endfor %}", "{% do 1 %}", "{% nope %}", "{% 5 %}", "{% %}", "{% debug %}",
    "{% if messages[0].role != 'system' %}{{ raise_exception('no system: ' ~ messages[0].role) }}{% endif %}", "{% if false %}{{ raise_exception('x') }}{% endif %}ok", "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}{% endif %}{{ message.role }}{% endfor %}",
    "{% for message in messages + [messages[0]] %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}{% endif %}{% endfor %}", "{% set x = messages | map(attribute='content') | join('\n') %}{{ x }}",
    "{%- for tool in people %}{{- '\n' }}{{ tool | tojson(indent=4) }}{% if not loop.last %},{% endif %}{% endfor -%}", "{{ messages[-1]['content'] + ('!' if yes else '?') }}", "{% set ns = namespace(found=false) %}{% for m in messages %}{% if m.role == 'assistant' %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.found }}",
    "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list | last }}", "{% set loop_messages = messages[1:] if messages[0].role == 'user' else messages %}{{ loop_messages | length }}", "{{ '<' ~ (user.tags | join('><')) ~ '>' }}", "{{ (messages | last).content }}", "{{ messages|length - 1 }}",
    "{% set x = {'a': 1} %}{% set y = dict(x, b=2) %}{{ y }}", "{% set x = dict(user, **{'n': 1}) %}{{ x.n }}", "{% set date = strftime_now('%d %B %Y') if strftime_now is defined else 'x' %}{{ date }}", "{% if strftime_now is defined %}y{% endif %}{% if nope_now is defined %}n{% endif %}",
    "{{ 'a'\n ~\n'b' }}", "{% if name\n == 'World' %}x{% endif %}", "{{\n1\n}}", "{% set a = 'x'  'y' %}{{ a }}", "{{ 'é' }}日本{{ 'ß' | upper }}", "{% set x = [1, 2] %}{% set y = x + [3] %}{{ x }}{{ y }}", "{% set x = name if name is string else name | tojson %}{{ x }}",
    "{{ name.__class__ }}", "{{ ''.__class__.__mro__ }}", "{{ user.__init__ }}", "{{ range.__globals__ }}",
]

# What Jinja renders and this project refuses, by name: no template is rendered wrongly in silence.
UNSUPPORTED = [
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}", "{% macro m(a) %}{{ varargs | join }}{% endmacro %}{{ m(1, 2, 3) }}",
    "{% macro m() %}{{ caller() }}!{% endmacro %}{% call m() %}body{% endcall %}",
    "{% macro m(a) %}{{ a }}{{ caller(1, 2) }}{% endmacro %}{% call(x, y) m(0) %}{{ x }}{{ y }}{% endcall %}",
    
    "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}", "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "{% set a = 5 %}{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% with %}{% set z = 1 %}{{ z }}{% endwith %}{{ z }}",
    "{% with a, b = [1, 2] %}{{ b }}{% endwith %}", "{% filter upper %}abc{{ name }}{% endfilter %}",
    "{% filter replace('a', 'b') | upper %}aXa{% endfilter %}", "{% print 1, name %}",
    "{{ 10 ** 20 }}", "{{ 9223372036854775807 + 1 }}", "{{ 9223372036854775808 }}", "{{ '99999999999999999999' | int }}", "{{ '٣' | int }}", "{% for x in nested recursive %}{% endfor %}",
    "{% block a %}{% endblock %}", "{% autoescape true %}{% endautoescape %}", "{{ cycler('a') }}", "{{ joiner() }}", "{{ lipsum is defined }}", "{{ people | groupby('age') }}", "{{ numbers | batch(2) | list }}",
    "{{ name | center(20) }}", "{{ name | truncate(3) }}", "{{ name | wordcount }}", "{{ name | urlencode }}", "{{ name | attr('upper') }}", "{{ name.swapcase() }}", "{{ name.center(20) }}", "{{ name.encode() }}", "{{ 'é'.isalpha() }}",
    "{{ '{:>5}'.format(1) }}", "{{ '{0.x}{1}'.format(user, 1) if false else '{!r}'.format(1) }}", "{{ '%(a)s' | format(a=1) }}", "{{ '%e' % 1.5 }}", "{{ range(3) }}", "{{ namespace(a=1) }}", "{{ numbers | map('string') }}", "{{ name.upper }}", "{{ user.items }}", "{{ dict }}", "{{ dict | string }}", "{% macro m() %}{% endmacro %}{{ m }}",
    "{{ 5 .real }}", "{{ (1 / 3).is_integer() }}", "{{ 1 is sameas 1 }}", "{{ (html | safe).upper() }}", "{{ numbers[1,2] }}", "{{ strftime_now('%s') }}", "{{ scores.keys() == scores.keys() }}", "{{ 1234.5 | round(-2) }}",
    "{% macro m() %}{% endmacro %}{{ m.name }}", "{{ '%x' % -1 }}",
]
