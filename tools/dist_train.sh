#!/usr/bin/env bash
# Train with several processes: dist_train.sh CONFIG GPUS [options of train.py]
# On several nodes, on each: NNODES=2 NODE_RANK=0 MASTER_ADDR=HOST PORT=29500
# On a machine without GPUs, GPUS is the number of processes on the CPU.
set -e
if [ $# -lt 2 ]; then
    echo "Usage: bash $0 CONFIG GPUS [options of train.py]" >&2
    exit 2
fi
exec bash "$(dirname "$0")/_torchrun.sh" "$2" train.py "$1" "${@:3}"
