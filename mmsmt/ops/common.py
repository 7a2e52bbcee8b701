"""Arithmetic that the operators share."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

try:
    import torchvision  # noqa: F401, registers torch.ops.torchvision
except ImportError as error:
    raise ImportError(
        "mmcv has no compiled operators here, and torchvision's, which "
        f'replace them, do not import: {error}. Install the torchvision of '
        'this torch.'
    ) from error


def at_least_float32(x: Tensor) -> Tensor:
    """Convert ``x`` to float32, unless it is in float64.

    Half precision is computed in single precision: torchvision has no bfloat16
    kernels, and no float16 kernels for a CPU.
    """
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def as_dtype_of(reference: Tensor, *others: Tensor) -> list[Tensor]:
    """Convert all tensors to the reference's dtype, at least float32."""
    reference = at_least_float32(reference)
    return [reference, *(x.to(reference.dtype) for x in others)]


def in_threads(
    function: Callable[[Tensor], Tensor], x: Tensor, work: int
) -> list[Tensor]:
    """Call ``function`` on parts of ``x``, on a CPU in one thread per part.

    torchvision's CPU kernels use one core. The parts are independent, so the
    results are bitwise equal to those of one call.

    Args:
        function: Called with a contiguous part.
        x: Tensor to split along its first dimension.
        work: Number of elements to compute; few are computed in one call.

    Returns:
        The results in order, at least one.
    """
    count = min(torch.get_num_threads(), len(x))
    if count < 2 or work < 2**17 or x.is_cuda or torch.jit.is_tracing():
        return [function(x)]
    parts = [part.contiguous() for part in x.chunk(count)]
    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(function, parts))


def differentiate(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    grad_output: Tensor,
) -> tuple[Tensor, ...]:
    """Recompute ``function`` and differentiate it by autograd.

    Args:
        function: Called with the inputs.
        inputs: Floating-point tensors whose gradients are computed.
        grad_output: Gradient of the result.

    Returns:
        A gradient for each input.
    """
    with torch.enable_grad():
        leaves = [x.detach().requires_grad_() for x in inputs]
        output = function(*leaves)
        return torch.autograd.grad(
            output, leaves, grad_output.to(output.dtype)
        )
