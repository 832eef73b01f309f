#!/usr/bin/env bash
# Trains on several machines of a SLURM cluster, with one process on each that uses all its GPUs, from the repository's root:
#
#     sbatch --nodes=4 --gpus-per-node=8 --time=24:00:00 launch/slurm.sh --config=configs/beauty.py --workdir=FOLDER_THAT_ALL_NODES_SEE
#
# PYTHON=... names another interpreter than python3; every node must have it under that path. Two minutes before the time limit, and when
# the scheduler preempts the job, the processes save a checkpoint, and the job returns to the queue under the same number and continues its
# log. A crashed job is not requeued; submit the same command again to continue from the last checkpoint. To stop for good: scancel JOB.
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
# Process 0 listens on the first host. The port depends on the job, so that jobs on one host differ, and is below the system's own range.
export JAX_COORDINATOR_ADDRESS="${hosts%%$'\n'*}:$((10000 + SLURM_JOB_ID % 20000))"
export JAX_NUM_PROCESSES="$SLURM_NNODES"
export PYTHONUNBUFFERED=1
if [[ -n "${SLURM_CPUS_PER_TASK:-}" ]]; then
    export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK" # since SLURM 22.05 srun does not read the job's value
fi

# The signal of --signal=B: reaches only this shell. It is passed on with scancel, because srun itself kills its tasks on SIGTERM. With
# --state=RUNNING no signal is sent if the scheduler has already put the job back into the queue.
passed_on=0
pass_on() {
    passed_on=1
    scancel --state=RUNNING --signal=TERM "$SLURM_JOB_ID" || true
}
trap pass_on TERM

# SLURM_LOCALID is unset because JAX otherwise assumes one process per GPU and uses GPU 0 only. With exec, SIGTERM reaches Python.
# shellcheck disable=SC2016 # the variables are those of the tasks
srun --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" --ntasks-per-node=1 --kill-on-bad-exit=1 --label \
    bash -c 'unset SLURM_LOCALID; export JAX_PROCESS_ID="$SLURM_PROCID"; exec "$@"' bash "${PYTHON:-python3}" -m grasp_jax.main "$@" &
step=$!

# A signal ends `wait` early, with a status other than srun's.
while true; do
    passed_on=0 status=0
    wait "$step" || status=$?
    if ((!passed_on)); then
        break
    fi
done

if ((status == 75)); then
    # A job that was cancelled, or that the scheduler itself has requeued, is no longer RUNNING and must not be requeued.
    if [[ "$(scontrol show job "$SLURM_JOB_ID")" == *JobState=RUNNING* ]]; then
        echo "launch: preempted; job $SLURM_JOB_ID goes back into the queue, and then on from its checkpoint" >&2
        scontrol requeue "$SLURM_JOB_ID" || true # scontrol prints its own error; the exit status stays 75
    fi
fi
exit "$status"
