"""Compare outputs, and count operators."""

from collections import Counter

import torch
from torch.profiler import ProfilerActivity, profile


def loss_of(outs) -> torch.Tensor:
    return sum((out * out.detach().cos()).mean() for out in outs)


def close(outs, references, tolerance=1e-5) -> bool:
    return all(
        (out - ref).abs().max() <= tolerance * ref.abs().max()
        for out, ref in zip(outs, references, strict=True)
    )


def operators(run) -> Counter:
    with profile(activities=[ProfilerActivity.CPU]) as record:
        run()
    return Counter(event.name for event in record.events())
