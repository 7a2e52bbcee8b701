"""Mixed precision on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn

from mmsmt.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Optimizer wrapper for bfloat16 autocast on a CPU.

    mmengine's ``AmpOptimWrapper`` needs a GPU. bfloat16 has the range of
    float32, so that losses are not scaled. Arguments are those of mmengine's
    ``OptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass of ``model`` under bfloat16 autocast."""
        with (
            super().optim_context(model),
            torch.autocast('cpu', torch.bfloat16),
        ):
            yield


def list_wrappers(wrapper: Any) -> list[Any]:
    """Return the wrappers of single optimizers, of models with several too."""
    if isinstance(wrapper, OptimWrapperDict):
        return list(wrapper.values())
    return [wrapper]


def list_schedulers(schedulers: Any) -> list[Any]:
    """Return a runner's schedulers, of several optimizers too."""
    if isinstance(schedulers, dict):
        return list(chain(*schedulers.values()))
    return list(schedulers or ())


def cpu_has_bf16() -> bool:
    """Check that this CPU multiplies bfloat16 in hardware.

    oneDNN emulates it on other CPUs, slower than float32. Detected on Linux
    only.
    """
    try:
        lines = Path('/proc/cpuinfo').read_text('utf-8').splitlines()
    except OSError:
        return False
    flags = next((ln for ln in lines if ln.startswith(('flags', 'Feat'))), '')
    return not {'avx512_bf16', 'amx_bf16', 'bf16'}.isdisjoint(flags.split())
