"""Time and memory of backbones, side by side, on this machine.

    mmsmt benchmark                         SMT-S and its peers
    mmsmt benchmark --rows mmsmt plain --sizes 224x224 --batch 8
    mmsmt benchmark --rows mmsmt plain --tasks detector --dtypes bf16
    mmsmt benchmark --tasks detector --config CONFIG
                                            with the neck and heads of a config
    mmsmt benchmark --release ~/SMT         with the authors' code
    mmsmt benchmark --sizes 224x224 512x512 800x1344 --plot growth.png
                                            plot the cost over image size

Each measurement runs in its own process, so that the peak of memory belongs to
one row. The rows alternate, --repeats times, so that all run under the same
conditions. Medians are printed, with the minimum and the maximum. Memory is
the peak of a pass above the model at rest: the high-water mark of the process
on a CPU, of PyTorch's allocator on a GPU.

The floor of a row is the longer of two lower bounds of its time: its products
(without those that with_cp recomputes) at the rate of the machine's fastest
matrix product, and its memory traffic (in training, the tensors that autograd
keeps, written once and read once) at the bandwidth of a copy. Both rates are
measured first, in the same run.

Needs a checkout (the plain form is tests/support/plain_smt.py) and Linux.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from mmsmt.errors import UsageError, UserError

from .machine import DTYPES
from .output import describe_machine, draw_plot, format_table
from .passes import TASKS
from .rows import (
    DEFAULT_ROWS,
    DETECTOR,
    PEERS,
    PLAIN,
    SMT_ROWS,
    find_host,
    read_detector,
)
from .runtimes import RUNTIMES, installed_runtimes

ROWS = (*SMT_ROWS, *RUNTIMES, *PEERS)
PICTURES = ('.png', '.pdf', '.svg')
OUT_OF_MEMORY = (
    'out of memory',
    "can't allocate memory",
    'Cannot allocate memory',
    'MemoryError',
    'bad_alloc',
    'could not create a memory',
    'could not create a primitive',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark``."""
    parser.add_argument(
        '--rows', nargs='+', choices=ROWS, metavar='ROW',
        help=f'some of: {", ".join(ROWS)} (default: all but '
        "'mmsmt compiled' and 'release', and what is not installed)",
    )  # fmt: skip
    parser.add_argument('--arch', default='small', help='arch of SMT')
    parser.add_argument(
        '--tasks', nargs='+', choices=TASKS, default=TASKS[:2],
        help='inference and training (forward and backward) of the backbone, '
        'a train step of a detector with it (default: the first two)',
    )  # fmt: skip
    parser.add_argument(
        '--config', type=Path, metavar='FILE',
        help='config of the detector: its neck and heads, around the backbone '
        f'of the row; three-channel images (default: configs/{DETECTOR})',
    )  # fmt: skip
    parser.add_argument(
        '--sizes', nargs='+', type=parse_size, default=[(800, 1344)],
        metavar='HxW', help='sizes of the images (default: 800x1344)',
    )  # fmt: skip
    parser.add_argument('--batch', nargs='+', type=int, default=[1])
    parser.add_argument(
        '--dtypes', nargs='+', choices=DTYPES, default=['fp32'],
        help='fp32, or autocast to bf16 or fp16',
    )  # fmt: skip
    parser.add_argument(
        '--channels-last',
        action='store_true',
        help='keep weights and images in channels-last memory',
    )
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument(
        '--device',
        choices=('cpu', 'cuda'),
        help='default: cuda if available',
    )
    parser.add_argument('--threads', type=int, help='CPU threads')
    parser.add_argument(
        '--release', type=Path, metavar='PATH',
        help="a clone of the authors' repository, measured as one more row",
    )  # fmt: skip
    parser.add_argument('--json', type=Path, help='file for the results')
    parser.add_argument(
        '--plot', type=Path, help='plot of them over image size'
    )


def check_arguments(args: argparse.Namespace) -> None:
    """Reject conflicting options, and complete the list of rows."""
    if min(args.batch) < 1 or args.repeats < 1:
        raise UsageError('--batch and --repeats must be at least 1')
    for path in filter(None, (args.json, args.plot)):
        if not path.resolve().parent.is_dir():
            raise UsageError(f'there is no folder {path.resolve().parent}')
        if path.exists():
            raise UsageError(
                f'{path} exists already: remove it, or name another'
            )
    if args.release and not (args.release / 'models' / 'smt.py').is_file():
        raise UsageError(
            f'{args.release} has no models/smt.py: --release takes a clone of '
            'https://github.com/AFeng-x/SMT'
        )
    runtimes = installed_runtimes()
    for row in args.rows or ():
        if row in RUNTIMES and row not in runtimes:
            extra = 'openvino' if row == 'openvino' else 'export'
            raise UsageError(
                f"the row '{row}' needs it: pip install 'mmsmt[{extra}]'"
            )
    absent = {row for row in PEERS if find_spec(find_host(row)) is None}
    for row in args.rows or ():
        if row in absent:
            raise UsageError(
                f"the row '{row}' needs {find_host(row)}, which is not "
                'installed'
            )
    default = (x for x in (*DEFAULT_ROWS, *runtimes) if x not in absent)
    args.rows = list(dict.fromkeys(args.rows or default))
    if args.release and 'release' not in args.rows:
        args.rows.append('release')
    if 'plain' in args.rows and not PLAIN.is_file():
        raise UsageError(f"the row 'plain' needs a checkout, with {PLAIN}")
    if 'release' in args.rows and not args.release:
        raise UsageError(
            "the row 'release' needs --release PATH, a clone of it"
        )
    check_rows(args)
    if args.config:
        if 'detector' not in args.tasks:
            raise UsageError('--config needs --tasks detector')
        read_detector(args.config)
    if args.plot and len(args.sizes) < 2:
        raise UsageError('--plot needs several --sizes')
    if args.plot and args.plot.suffix not in PICTURES:
        raise UsageError(f'--plot takes a file {" or ".join(PICTURES)}')


def check_rows(args: argparse.Namespace) -> None:
    """Reject cases that no row can compute on the device, if it is known."""
    for case in list_cases(args):
        if not find_rows(args, case):
            raise UsageError(
                f'{case["task"]} in {case["dtype"]} would have no row: '
                'with_cp is for training; onnxruntime and openvino are for '
                'inference on a CPU, in fp32 (openvino in bf16 too)'
            )


def parse_size(text: str) -> tuple[int, int]:
    """Parse ``'800x1344'`` into height and width."""
    try:
        height, width = map(int, text.split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not HxW, like 800x1344'
        ) from None
    if min(height, width) < 32:
        raise argparse.ArgumentTypeError(f'{text} is below 32x32')
    return height, width


def main(args: argparse.Namespace) -> None:
    """Run ``benchmark``."""
    check_arguments(args)
    machine = run_one(args, 'machine', dtypes=args.dtypes)
    if 'failed' in machine:
        raise UserError(f'The limits of this machine: {machine["failed"]}')
    args.device = machine['device']
    check_rows(args)
    print(describe_machine(machine), flush=True)
    results = []
    for case in list_cases(args):
        rows = find_rows(args, case)
        results += measure_case(args, case, rows, machine)
        print(format_table(results[-len(rows) :]), flush=True)
        if args.json:  # keep the results so far
            args.json.write_text(
                json.dumps(dict(machine=machine, results=results), indent=1)
            )
    if args.plot:
        draw_plot(results, machine, args.plot)


def list_cases(args: argparse.Namespace) -> list[dict]:
    """Return the tasks, in each precision, batch and size."""
    return [
        dict(task=task, dtype=dtype, batch=batch, size=size)
        for task in args.tasks
        for dtype in args.dtypes
        for batch in args.batch
        for size in args.sizes
    ]


def find_rows(args: argparse.Namespace, case: dict) -> list[str]:
    """Return the rows that can compute a case."""
    inference = case['task'] == 'inference'
    runtimes = inference and args.device != 'cuda'
    return [
        row
        for row in args.rows
        if (
            runtimes and case['dtype'] in RUNTIMES[row]
            if row in RUNTIMES
            else not inference or row != 'mmsmt with_cp'
        )
    ]


def run_one(args: argparse.Namespace, name: str, **case: object) -> dict:
    """Run one measurement in a new process.

    Returns:
        dict: The measurement, or ``failed`` with the reason if memory ran out.

    Raises:
        UserError: The process failed for another reason.
    """
    child = dict(case, arch=args.arch, device=args.device)
    child.update(threads=args.threads, channels_last=args.channels_last)
    child['config'] = str(args.config) if args.config else None
    child['release'] = str(args.release.resolve()) if args.release else None
    process = subprocess.run(
        [sys.executable, '-m', 'mmsmt.benchmark.child', name],
        env={**os.environ, 'MMSMT_BENCHMARK': json.dumps(child)},
        capture_output=True,
        text=True,
    )
    if process.returncode == 0:
        return json.loads(process.stdout.splitlines()[-1])
    error = process.stderr.strip().splitlines()
    memory = process.returncode in (-9, 137) or any(
        words in process.stderr for words in OUT_OF_MEMORY
    )
    if not memory:
        raise UserError(f'{name} {case} failed:\n' + '\n'.join(error[-20:]))
    return dict(failed='out of memory')


def measure_case(
    args: argparse.Namespace, case: dict, rows: list[str], machine: dict
) -> list[dict]:
    """Measure all rows of one case, in turn."""
    runs: dict[str, list[dict]] = {row: [] for row in rows}
    for _ in range(args.repeats):
        for row in rows:
            if not any('failed' in run for run in runs[row]):
                runs[row].append(run_one(args, 'measure', row=row, **case))
    costs = (
        {}
        if case['task'] == 'detector'
        else run_one(args, 'costs', rows=rows, **case)
    )
    results = []
    for row, measured in runs.items():
        result = dict(case, row=row)
        if 'failed' in measured[-1]:
            result['failed'] = measured[-1]['failed']
        else:
            for key in ('seconds', 'memory'):
                values = sorted(run[key] for run in measured)
                result[key] = statistics.median(values)
                result[f'{key}_range'] = [values[0], values[-1]]
            result['images_per_second'] = case['batch'] / result['seconds']
            if row in costs:
                result.update(costs[row])
                result['floor'] = max(
                    result['flops'] / machine['flops'][case['dtype']],
                    result['bytes'] / machine['bandwidth'],
                )
        results.append(result)
    return results
