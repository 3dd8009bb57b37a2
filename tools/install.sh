#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs what is missing from Debian's packages (Debian 12 or later). This is the one list of what Qwerky needs.
#   tools/install.sh          to build and run
#   tools/install.sh tests    also for the tests, the fuzzers, the kernel benchmarks and several processes (MPI)
set -eu

packages="g++ cmake ninja-build pkg-config nlohmann-json3-dev libcli11-dev libpcre2-dev libutf8proc-dev
  libsentencepiece-dev libzstd-dev libboost-dev"
if [ "${1:-}" = tests ]; then
  packages="$packages libgtest-dev libbenchmark-dev clang-14 libclang-rt-14-dev libopenmpi-dev openmpi-bin"
fi

missing=""
for package in $packages; do
  status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
  [ "$status" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
  as_root=""
elif command -v sudo >/dev/null; then
  as_root="sudo"
else
  echo "error: packages missing, and neither root nor sudo to install them. As root: apt-get install$missing" >&2
  exit 1
fi
echo "installing:$missing" >&2
$as_root apt-get update -qq
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
