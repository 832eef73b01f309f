#!/usr/bin/env bash
# Submits the whole daily job to a SLURM cluster, from a login node and the repository's root: prepare, train, refit, represent, export.
#
#     TRAIN="--nodes=4 --gpus-per-node=8 --time=08:00:00" ONE="--nodes=1 --gpus-per-node=1 --time=04:00:00" \
#         launch/slurm_daily.sh --config=CONFIG.py --workdir=/shared/runs/2026-03-02 [--since=/shared/runs/2026-03-01]
#
# It submits launch/slurm.sh once for each step. A step begins when the step before it has succeeded; after a failure the later steps are
# cancelled. TRAIN has sbatch's options for training and refit, ONE those for the other steps, which run in one process. --since names the
# workdir of the day before: then only new and changed texts are encoded (if the encoder reads texts), and training starts from that day's
# models. After a failure submit the same command again; finished steps are skipped. DRY_RUN=1 prints the commands and submits nothing.
set -euo pipefail

usage="launch/slurm_daily.sh --config=CONFIG.py --workdir=/shared/runs/2026-03-02"
workdir="" since="" config="" flags=()
for argument in "$@"; do
    case "$argument" in
        --config | --workdir | --since | --mode)
            echo "error: $argument without a value; write it with =, as in $argument=VALUE" >&2
            exit 2
            ;;
        --config=*)
            config="${argument#*=}"
            flags+=("$argument")
            ;;
        --workdir=*) workdir="${argument#*=}" ;;
        --since=*) since="${argument#*=}" ;;
        --mode=*)
            echo "error: $argument; expected none, for every step has its own mode" >&2
            exit 2
            ;;
        --*) flags+=("$argument") ;;
        *)
            echo "error: unexpected argument $argument; write flags as --name=value, as in $usage" >&2
            exit 2
            ;;
    esac
done
if [[ -z "$workdir" ]]; then
    echo "error: --workdir is needed, a folder that all nodes see, as in $usage" >&2
    exit 2
fi
if [[ -z "$config" && ! -f "$workdir/config.json" ]]; then
    echo "error: --config is needed, because $workdir holds no config.json of an earlier run, as in $usage" >&2
    exit 2
fi

before=""
# submit NAME OPTIONS FLAG...: submits a step that starts after the step before it; OPTIONS are options of sbatch.
submit() {
    local name="$1" options="$2"
    shift 2
    local command=(sbatch --parsable "--job-name=grasp_jax-$name" "--output=slurm-%j-$name.out")
    # shellcheck disable=SC2206 # OPTIONS is split into words
    command+=($options)
    if [[ -n "$before" ]]; then
        command+=("--dependency=afterok:$before" --kill-on-invalid-dep=yes)
    fi
    command+=(launch/slurm.sh "$@")
    if [[ -n "${DRY_RUN:-}" ]]; then
        printf '%q ' "${command[@]}"
        echo
        before="$name"
        return
    fi
    before="$("${command[@]}")"
    before="${before%%;*}" # with several clusters sbatch prints JOB;CLUSTER
    echo "$name: job $before"
}

one="${ONE:---nodes=1}" train="${TRAIN:---nodes=1}"
go_on=()
if [[ -n "$since" ]]; then
    go_on=("--config.knowledge.since=$since" "--config.train.start_from=$since")
fi
alone=(--config.mesh.data=1 --config.mesh.table=1) # one process with one device, whatever mesh training uses
own=("${flags[@]+"${flags[@]}"}" "${go_on[@]+"${go_on[@]}"}" "--workdir=$workdir")
submit prepare "$one" --mode=prepare "${own[@]}" "${alone[@]}"
submit train "$train" --mode=train "${own[@]}"
submit refit "$train" --mode=refit "${own[@]}"
submit represent "$one" --mode=represent "--workdir=$workdir/refit" "${alone[@]}"
submit export "$one" --mode=export "--workdir=$workdir/refit" "${alone[@]}"
