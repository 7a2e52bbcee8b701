"""Arithmetic that the operators share."""

from collections.abc import Callable, Sequence

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
