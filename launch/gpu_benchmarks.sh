#!/usr/bin/env bash
# The benchmarks that a GPU is for, on one of them and within ten minutes, from the repository's root:
#
#     launch/gpu_benchmarks.sh [--quick] [--out=FOLDER]
#
# It needs Python 3.11 with jax for CUDA, flax, optax, orbax-checkpoint, numpy and absl-py, and torch for the rival of the step; nothing
# else of requirements.txt. PYTHON=... names another interpreter than python3. Results go to benchmarks/results, or to FOLDER, and what has
# not begun when the ten minutes are over is left out and said; --quick runs all of it at small sizes, on any device.
set -euo pipefail

# PyTorch and JAX share the device in the step's comparison.
export XLA_PYTHON_CLIENT_PREALLOCATE=false
# Several benchmarks run the same step; the first compiles it, and says how long that took.
JAX_COMPILATION_CACHE_DIR="$(mktemp -d)"
export JAX_COMPILATION_CACHE_DIR
trap 'rm -rf "$JAX_COMPILATION_CACHE_DIR"' EXIT
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
"${PYTHON:-python3}" -m benchmarks.run --suite=gpu --at-once=4 --seconds=600 "$@"
