"""Limits, clocks and memory of the machine."""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import mmcv
import mmengine
import torch
import torch.nn.functional as F

import mmsmt
from mmsmt.environment import cpu_name

DTYPES = dict(fp32='float32', bf16='bfloat16', fp16='float16')
MIB = 2**20


def measure_machine(args: argparse.Namespace) -> dict:
    """Measure the rates of matrix products and the memory bandwidth."""
    if (args.device, torch.__version__[:4]) == ('cpu', '2.1.') and (
        'fp16' in args.dtypes
    ):
        raise SystemExit('PyTorch 2.1 has no fp16 autocast on a CPU')
    rates: dict[str, dict[str, float]] = {}

    def best_time(run: Callable[[], object]) -> float:
        return min(clock(run, args.device) for _ in range(20))

    n = 128 if args.device == 'cuda' else 64
    for name in args.dtypes:
        dtype = getattr(torch, DTYPES[name])
        x = torch.randn(1, n, n, n * n // 4, device=args.device, dtype=dtype)
        w = torch.randn(n * n // 4, x.shape[3], device=x.device, dtype=dtype)
        # On a CPU two libraries compute products and convolutions.
        ways = {'linear': lambda x=x, w=w: F.linear(x, w)}
        if args.device == 'cpu':
            image, kernel = x.permute(0, 3, 1, 2), w[:, :, None, None]
            ways['1x1 convolution'] = lambda i=image, k=kernel: F.conv2d(
                i, k, dilation=2
            )
        flops = 2 * x.numel() * len(w)
        rates[name] = {
            key: flops / best_time(way) for key, way in ways.items()
        }
    source = torch.ones(64 * MIB, device=args.device)
    target = source.clone()
    seconds = best_time(lambda: target.copy_(source))
    return dict(
        device=args.device,
        name=torch.cuda.get_device_name()
        if args.device == 'cuda'
        else f'{cpu_name()}, {torch.get_num_threads()} threads',
        flops={name: max(found.values()) for name, found in rates.items()},
        rates=rates,
        bandwidth=2 * source.nbytes / seconds,
        versions=dict(
            mmsmt=mmsmt.__version__,
            torch=torch.__version__,
            mmengine=mmengine.__version__,
            mmcv=mmcv.__version__,
            python=platform.python_version(),
        ),
        date=time.strftime('%Y-%m-%d'),
    )


def clock(run: Callable[[], object], device: str) -> float:
    """Measure the duration of one call, in seconds."""
    wait = torch.cuda.synchronize if device == 'cuda' else lambda: None
    wait()
    start = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - start


def median_time(run: Callable[[], object], device: str, first: float) -> float:
    """Return the median time of calls over two seconds, ``first`` included."""
    times = [first]
    while sum(times) < 2 and len(times) < 50:
        times.append(clock(run, device))
    return statistics.median(times)


def peak_memory(device: str) -> int:
    """Return the peak of memory since the last reset, in bytes."""
    if device == 'cuda':
        return torch.cuda.max_memory_allocated()
    lines = Path('/proc/self/status').read_text().splitlines()
    (peak,) = (line for line in lines if line.startswith('VmHWM'))
    return int(peak.split()[1]) * 1024
