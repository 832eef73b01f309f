#!/usr/bin/env bash
# Runs the benchmarks for a GPU, on one GPU and within ten minutes, from the repository's root:
#
#     launch/gpu_benchmarks.sh [--quick] [--out=FOLDER]
#
# It needs Python 3.11 with jax for CUDA, flax, optax, orbax-checkpoint, numpy and absl-py, torch for the rival of the step, and nothing
# else of requirements.txt. PYTHON=... names another interpreter than python3. Results go to benchmarks/results, or to FOLDER. Benchmarks
# that have not begun after ten minutes are left out, and the script names them. --quick runs all of them at small sizes, on any device.
set -euo pipefail

# PyTorch and JAX share the device when training steps are compared.
export XLA_PYTHON_CLIENT_PREALLOCATE=false
# Several benchmarks run the same step. The first one compiles it and prints the time for that.
JAX_COMPILATION_CACHE_DIR="$(mktemp -d)"
export JAX_COMPILATION_CACHE_DIR
trap 'rm -rf "$JAX_COMPILATION_CACHE_DIR"' EXIT
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
"${PYTHON:-python3}" -m benchmarks.run --suite=gpu --at-once=4 --seconds=600 "$@"
