"""Compare outputs, and count operators and kept memory."""

from collections import Counter
from collections.abc import Callable, Iterable

import torch
from torch.profiler import ProfilerActivity, profile


def loss_of(outs) -> torch.Tensor:
    return sum((out * out.detach().cos()).mean() for out in outs)


def close(outs, references, tolerance=1e-5) -> bool:
    return all(
        (out - ref).abs().max() <= tolerance * ref.abs().max()
        for out, ref in zip(outs, references, strict=True)
    )


def kept_bytes(
    run: Callable[[], object], weights: Iterable[torch.Tensor]
) -> int:
    """Count the bytes that autograd keeps, without those of the weights."""
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        out = run()  # alive until the addresses are counted
    for weight in weights:
        storages.pop(weight.untyped_storage().data_ptr(), None)
    del out
    return sum(storage.nbytes() for storage in storages.values())


def operators(run) -> Counter:
    with profile(activities=[ProfilerActivity.CPU]) as record:
        run()
    return Counter(event.name for event in record.events())
