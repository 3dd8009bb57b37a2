#!/bin/sh
# SPDX-License-Identifier: MIT
# The C++ of a page compiles:  doc_example.sh PAGE COMPILER FLAGS…
set -eu
page=$1
shift
example=$(mktemp --suffix=.cc)
trap 'rm -f "$example"' EXIT
awk '/^```cpp$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$page" >"$example"
grep -q SPDX "$example" || { echo "no C++ block in $page" >&2; exit 1; }
"$@" -fsyntax-only "$example"
