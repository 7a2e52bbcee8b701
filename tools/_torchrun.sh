#!/usr/bin/env bash
# Run a script of this folder under torchrun: _torchrun.sh PROCESSES SCRIPT
# ARGUMENTS. Used by dist_train.sh and dist_test.sh.
set -e
processes=$1
script=$(dirname "$0")/$2
case $processes in
'' | *[!0-9]* | 0)
    echo "The number of GPUs must be a positive number, got '$processes'" >&2
    exit 2
    ;;
esac
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$processes" \
    "$script" "${@:3}" --launcher pytorch
