"""Arithmetic that the operators share."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

try:
    import torchvision  # noqa: F401, registers torch.ops.torchvision
except ImportError as error:
    raise ImportError(
        "mmcv has no compiled operators here, and torchvision's, which stand "
        f'in for them, do not import: {error}. Install the torchvision of '
        'this torch.'
    ) from error


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x`` in float32, or as it is in float64.

    Half precision is computed in single: torchvision has no bfloat16 kernels,
    nor float16 ones for a CPU.
    """
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def as_dtype_of(reference: Tensor, *others: Tensor) -> list[Tensor]:
    """Return all in one dtype, the reference's, float32 at least."""
    reference = at_least_float32(reference)
    return [reference, *(x.to(reference.dtype) for x in others)]


def in_threads(
    function: Callable[[Tensor], Tensor], x: Tensor, work: int
) -> list[Tensor]:
    """Call ``function`` on parts of ``x``, on a CPU each in a thread.

    torchvision's kernels for a CPU use one core. The parts are independent, so
    the results are those of one call to the last bit.

    Args:
        function: Of a part, dense.
        x: Cut along its first dimension.
        work: Elements to compute; few are not worth a thread.

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
    """Compute ``function`` again and its gradients by autograd.

    Args:
        function: Called with the inputs.
        inputs: Floating-point tensors, each differentiated by.
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
