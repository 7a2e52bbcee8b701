#!/usr/bin/env bash
# Test with several processes: dist_test.sh CONFIG CHECKPOINT GPUS [options of
# test.py]. For several nodes, or without GPUs, see dist_train.sh.
set -e
if [ $# -lt 3 ]; then
    echo "Usage: bash $0 CONFIG CHECKPOINT GPUS [options of test.py]" >&2
    exit 2
fi
exec bash "$(dirname "$0")/_torchrun.sh" "$3" test.py "$1" "$2" "${@:4}"
