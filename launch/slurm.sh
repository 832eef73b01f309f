#!/usr/bin/env bash
# Training on several machines of a SLURM cluster, one process on each with all its GPUs, from the repository's root:
#
#     sbatch --nodes=4 --gpus-per-node=8 --time=24:00:00 launch/slurm.sh --config=configs/beauty.py --workdir=FOLDER_THAT_ALL_NODES_SEE
#
# PYTHON=... names another interpreter than python3, one that every node has under that path. Two minutes before the time limit, and when
# the scheduler preempts the job, the processes save a checkpoint and the job goes back into the queue, as itself: its output is appended
# to. A crash is not requeued; the same command continues from the last checkpoint. To stop for good: scancel JOB.
#SBATCH --job-name=grasp_jax
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
#SBATCH --open-mode=append
set -euo pipefail

if [[ -z "${SLURM_JOB_ID:-}" ]]; then
    echo "error: SLURM_JOB_ID is not set; expected a job, as in sbatch --nodes=4 --gpus-per-node=8 launch/slurm.sh --config=..." >&2
    exit 2
fi

hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
# Process 0 listens on the first host. Jobs that share it get ports of their own, below those that systems give out by themselves.
export JAX_COORDINATOR_ADDRESS="${hosts%%$'\n'*}:$((10000 + SLURM_JOB_ID % 20000))"
export JAX_NUM_PROCESSES="$SLURM_NNODES"
export PYTHONUNBUFFERED=1
if [[ -n "${SLURM_CPUS_PER_TASK:-}" ]]; then
    export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK" # srun does not take it over by itself since SLURM 22.05
fi

# The signal of --signal=B: reaches only this shell, which passes it on with scancel, because srun answers a SIGTERM by killing its tasks.
# --state keeps it from a job that the scheduler has put back into the queue meanwhile.
passed_on=0
pass_on() {
    passed_on=1
    scancel --state=RUNNING --signal=TERM "$SLURM_JOB_ID" || true
}
trap pass_on TERM

# Without SLURM_LOCALID: where JAX sees it, it takes one process per GPU for granted and uses GPU 0 alone. exec: SIGTERM is for Python.
# shellcheck disable=SC2016 # the variables are those of the tasks
srun --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" --ntasks-per-node=1 --kill-on-bad-exit=1 --label \
    bash -c 'unset SLURM_LOCALID; export JAX_PROCESS_ID="$SLURM_PROCID"; exec "$@"' bash "${PYTHON:-python3}" -m grasp_jax.main "$@" &
step=$!

# A signal ends `wait` early, with a status that is not srun's.
while true; do
    passed_on=0 status=0
    wait "$step" || status=$?
    if ((!passed_on)); then
        break
    fi
done

if ((status == 75)); then
    # Not for a job that is being cancelled, or that the scheduler itself requeues: neither is running any more.
    if [[ "$(scontrol show job "$SLURM_JOB_ID")" == *JobState=RUNNING* ]]; then
        echo "launch: preempted; job $SLURM_JOB_ID goes back into the queue, and then on from its checkpoint" >&2
        scontrol requeue "$SLURM_JOB_ID" || true # it says itself why it cannot; the status below stays
    fi
fi
exit "$status"
