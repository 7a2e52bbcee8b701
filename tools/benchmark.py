"""Time and memory of the backbone against a plain implementation, on the CPU.

    python tools/benchmark.py [--arch small] [--size 800 1344] [--repeats 3]

Each measurement is a process of its own, the two implementations in turn, so
that they meet the same machine and peak memory is theirs alone. The plain one
is tests/plain_smt.py; run this from a checkout.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODELS = ('plain', 'mmsmt')
MODES = ('inference', 'training')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--arch', default='small')
    parser.add_argument('--size', type=int, nargs=2, default=(800, 1344))
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--one', nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(*args.one, args)))
        return
    height, width = args.size
    print(
        f'SMT {args.arch}, 1x3x{height}x{width}, fp32, '
        f'{args.threads} threads, median (lowest - highest) of {args.repeats}'
    )
    for mode in MODES:
        results = {model: [] for model in MODELS}
        for _ in range(args.repeats):
            for model in MODELS:
                command = [sys.executable, *sys.argv, '--one', model, mode]
                output = subprocess.run(
                    command, check=True, stdout=subprocess.PIPE
                ).stdout
                results[model].append(json.loads(output.splitlines()[-1]))
        middle = {}
        for model, runs in results.items():
            seconds, extra = zip(*runs)
            middle[model] = [statistics.median(v) for v in (seconds, extra)]
            print(
                f'{mode:9s} {model:5s} {middle[model][0]:6.2f} s '
                f'({min(seconds):.2f} - {max(seconds):.2f}), '
                f'peak +{middle[model][1]:.2f} GiB '
                f'({min(extra):.2f} - {max(extra):.2f})'
            )
        time_ratio, memory_ratio = (
            mine / plain
            for mine, plain in zip(middle['mmsmt'], middle['plain'])
        )
        print(
            f'{mode:9s} ratio {time_ratio:6.2f} of the time, '
            f'{memory_ratio:.2f} of the extra memory',
            flush=True,
        )


def measure(model_name: str, mode: str, args: argparse.Namespace) -> list:
    """Seconds of the second of two passes, and GiB above the model at rest."""
    import torch

    from mmsmt import SMT

    sys.path.insert(0, str(ROOT / 'tests'))
    from plain_smt import PlainSMT

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = (
        SMT(args.arch)
        if model_name == 'mmsmt'
        else PlainSMT(**SMT.ARCHS[args.arch])
    ).train(mode == 'training')
    image = torch.rand(1, 3, 64, 64)

    def run() -> None:
        if mode == 'training':
            model.zero_grad()
            sum(out.square().mean() for out in model(image)).backward()
        else:
            with torch.no_grad():
                model(image)

    run()  # libraries and thread pools come up
    image = torch.rand(1, 3, *args.size)
    rest = int(Path('/proc/self/statm').read_text().split()[1])
    rest *= resource.getpagesize()
    run()
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return [seconds, (peak - rest) / 2**30]


if __name__ == '__main__':
    main()
