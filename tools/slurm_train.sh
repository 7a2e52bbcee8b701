#!/usr/bin/env bash
# Train on a slurm cluster: slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR
# [options of train.py]. Set GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5) and
# SRUN_ARGS in the environment. On nodes without GPUs, set NO_GPU=1 to request
# none; GPUS is then the number of processes.
set -e
if [ $# -lt 4 ]; then
    echo "Usage: bash $0 PARTITION JOB_NAME CONFIG WORK_DIR [options]" >&2
    exit 2
fi
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
gres="--gres=gpu:$per_node"
[ -z "${NO_GPU:-}" ] || gres=
# shellcheck disable=SC2086
exec srun --partition="$1" --job-name="$2" \
    ${gres:+"$gres"} \
    --ntasks="$gpus" \
    --ntasks-per-node="$per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$(dirname "$0")/train.py" "$3" \
    --work-dir "$4" --launcher slurm "${@:5}"
