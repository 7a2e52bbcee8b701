"""Run one measurement in its own process.

``python -m mmsmt.benchmark.child NAME``; the settings are in the environment
variable ``MMSMT_BENCHMARK``. Prints one line of JSON.
"""

import argparse
import json
import os
import resource
import sys
from pathlib import Path

import torch

from mmsmt.errors import UserError

from .machine import measure_machine
from .passes import measure_costs, measure_pass

MEASUREMENTS = dict(
    machine=measure_machine, measure=measure_pass, costs=measure_costs
)


def child_args() -> argparse.Namespace:
    """Configure PyTorch by the parent's settings, and return them."""
    args = argparse.Namespace(**json.loads(os.environ['MMSMT_BENCHMARK']))
    if args.threads:
        torch.set_num_threads(args.threads)
    args.device = args.device or (
        'cuda' if torch.cuda.is_available() else 'cpu'
    )
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise SystemExit('There is no GPU that PyTorch can use')
    if args.device == 'cpu':  # fail before the system is out of memory
        lines = Path('/proc/meminfo').read_text().splitlines()
        (available,) = (x for x in lines if x.startswith('MemAvailable'))
        used = int(Path('/proc/self/statm').read_text().split()[0])
        limit = used * resource.getpagesize()
        limit += int(0.95 * 1024 * int(available.split()[1]))
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    torch.backends.cudnn.allow_tf32 = False  # the default for matrix products
    torch.manual_seed(0)
    return args


if __name__ == '__main__':
    try:
        print(json.dumps(MEASUREMENTS[sys.argv[1]](child_args())))
    except UserError as error:
        raise SystemExit(str(error)) from None
