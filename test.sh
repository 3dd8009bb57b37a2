#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Everything, from a bare Debian 12: installs what is missing, builds, runs every test. Ends with ctest's summary.
#   QWERKY_FUZZ_SECONDS=15   seconds for each fuzzer (continuous integration: 60)
#   QWERKY_JOBS=$(nproc)     compilers at once, and tests at once
set -euo pipefail
cd "$(dirname "$0")"

jobs=${QWERKY_JOBS:-$(nproc)}
fuzz_seconds=${QWERKY_FUZZ_SECONDS:-15}

tools/install.sh tests

# Three builds: the product, the parsers under libFuzzer, the parsers and models under the sanitizers.
cmake --preset fuzz
cmake --build build-fuzz -j "$jobs"
cmake --preset asan
cmake --build build-asan -j "$jobs" --target sanitized_tests
cmake --preset release -DQWERKY_TESTS=ON -DQWERKY_BENCH=ON -DQWERKY_CHECK_ALL=ON -DQWERKY_FUZZ_SECONDS="$fuzz_seconds"
cmake --build build -j "$jobs"

tools/check_cuda.sh

# One ctest runs them all: unit tests, `asan_*` from build-asan, `fuzz_*` from build-fuzz.
exec ctest --test-dir build -j "$jobs" --output-on-failure
