#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds the program with its CUDA backend in build-cuda/ and asks it for that backend: it computes where there is a
# device, and says what is missing elsewhere. Without nvcc: one line. test.sh runs it.
set -euo pipefail
cd "$(dirname "$0")/.."

nvcc=${CUDACXX:-$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)}
if [ -z "$nvcc" ]; then
  echo "CUDA backend skipped: no nvcc"
  exit 0
fi
cmake -S . -B build-cuda -G Ninja -DCMAKE_BUILD_TYPE=Release -DQWERKY_CUDA=ON -DCMAKE_CUDA_COMPILER="$nvcc" \
  -DQWERKY_TESTS=OFF -DQWERKY_BENCH=OFF -DCMAKE_UNITY_BUILD=ON >/dev/null  # half the time; .cu files stay by themselves
cmake --build build-cuda -j "${QWERKY_JOBS:-$(nproc)}" --target qwerky
said=$(build-cuda/qwerky bench --ops --backend cuda 2>&1) || true
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
  grep -q linear <<<"$said" || { echo "CUDA backend: $said" >&2; exit 1; }
  echo "CUDA backend: built, and runs on $(nvidia-smi -L | head -1)"
else
  grep -q "backend cuda: no device found" <<<"$said" || { echo "CUDA backend: expected \"no device found\": $said" >&2; exit 1; }
  echo "CUDA backend: built for sm_80 and sm_90; no device here to run it"
fi
