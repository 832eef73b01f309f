#!/usr/bin/env bash
# Runs the benchmarks for a GPU, on one GPU and within ten minutes, from the repository's root:
#
#     launch/gpu_benchmarks.sh [--quick] [--out=FOLDER] [--only=NAMES] [--seconds=N] [--no-resume]
#
# It needs Python 3.11 with the packages of launch/gpu_requirements.txt, and nothing else of requirements.txt. PYTHON=... names another
# interpreter than python3. First steps and profiles are compiled, four at a time, because these take longest. Then each benchmark is timed
# with the machine to itself, the most important first: training steps at two shapes compared with rivals, the kernels' errors against
# float64, where the time of a step goes, neighbours, a whole training compared with rivals, Nsight Compute of the longest kernels, single
# kernels, evaluation. After ten minutes (--seconds=N: after N seconds) the benchmark that runs is ended, later ones are not begun, and the
# script names them; its exit status is then 1. A second call on the same machine does what is left, with what the first has compiled;
# --no-resume measures all again. Results go to benchmarks/results, or to FOLDER, where python -m benchmarks.report --results=FOLDER reads
# them.
#
# Without PyTorch or RecTools their rows are left out, and without Nsight Compute its table; a line says so. --quick --out=FOLDER tries
# everything at small sizes, on any device; those times mean nothing, and on two cores it takes some ten minutes: add --seconds=3600.
#
# All rivals of a training, each until it stops early, take hours and run only if they are named:
#
#     launch/gpu_benchmarks.sh --only=train_to_the_end --seconds=36000
set -euo pipefail

# PyTorch and JAX share the device when training steps are compared.
export XLA_PYTHON_CLIENT_PREALLOCATE=false
# Here the processes that are timed find what was compiled before.
CACHES="$PWD/.compiled/gpu"
export JAX_COMPILATION_CACHE_DIR="$CACHES/jax" TORCHINDUCTOR_CACHE_DIR="$CACHES/torch"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" -m benchmarks.run --suite=gpu --at-once=4 --seconds=600 --resume "$@"
