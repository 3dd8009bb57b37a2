#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Everything, from a bare Debian 12: installs what is missing, builds, runs every test. Ends with ctest's summary.
#   QWERKY_FUZZ_SECONDS=10   seconds for each fuzzer (continuous integration: 60)
#   QWERKY_JOBS=$(nproc)     compilers at once, and tests at once
#   QWERKY_UNITY=ON          files of a library compiled together, in half the time (continuous integration: OFF, so that each
#                            includes what it needs)
set -euo pipefail
cd "$(dirname "$0")"

jobs=${QWERKY_JOBS:-$(nproc)}
fuzz_seconds=${QWERKY_FUZZ_SECONDS:-10}

tools/install.sh tests

# Two builds: parsers and models under the sanitizers, with the fuzzers, and the product.
cmake --preset sanitize
cmake --build --preset sanitize -j "$jobs"
cmake --preset release -DQWERKY_TESTS=ON -DQWERKY_BENCH=ON -DQWERKY_CHECK_ALL=ON -DQWERKY_FUZZ_SECONDS="$fuzz_seconds" \
  -DCMAKE_UNITY_BUILD="${QWERKY_UNITY:-ON}"
cmake --build build -j "$jobs"

tools/check_cuda.sh

# One ctest runs them all: unit tests, `sanitized_*` and `fuzz_*` from build-sanitize.
exec ctest --test-dir build -j "$jobs" --output-on-failure
