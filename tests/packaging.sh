#!/bin/sh
# SPDX-License-Identifier: MIT
# The files of packaging/ fit the program:  packaging.sh QWERKY. 77 where a part could not be tried.
set -eu
program=$1
here=$(cd "$(dirname "$0")/../packaging" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
die() { echo "$1" >&2; exit 1; }

"$program" serve --help >"$work/help"
for flag in $(grep -hE '^(ExecStart|CMD)' "$here/qwerky.service" "$here/Dockerfile" | grep -oE '\-\-[a-z-]+'); do
  grep -q -e "$flag" "$work/help" || die "packaging/ passes $flag, which serve does not have"
done

# The health check of the image, on another port: none there, then a server that is ready.
check=$(grep -oE 'exec 3<>.*<&3' "$here/Dockerfile" | sed 's/\\\\/\\/g')
"$program" serve "$here/../models/teacher" --port 0 --quiet >"$work/url" 2>/dev/null &
server=$!
while [ ! -s "$work/url" ]; do kill -0 $server || die "serve ended"; done
port=$(sed 's/.*://' "$work/url")
bash -c "$(echo "$check" | sed "s/8080/$port/")" || die "the health check of a server that is ready failed"
kill $server && wait $server
bash -c "$(echo "$check" | sed "s/8080/$port/")" 2>/dev/null && die "the health check found a server where there is none"

command -v systemd-analyze >/dev/null || { echo "skipped: no systemd-analyze"; exit 77; }
sed "s#/usr/local/bin/qwerky#$program#" "$here/qwerky.service" >"$work/qwerky.service"
found=$(systemd-analyze verify "$work/qwerky.service" 2>&1) || die "systemd-analyze verify: $found"
[ -z "$found" ] || die "systemd-analyze verify: $found"
