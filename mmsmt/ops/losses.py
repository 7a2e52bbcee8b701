"""Focal losses.

Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 5.
"""

import torch
from torch import Tensor

from .common import at_least_float32


def _log(x: Tensor) -> Tensor:
    return x.clamp(min=torch.finfo(torch.float32).tiny).log()


def _class_weights(weight: Tensor, target: Tensor) -> Tensor | None:
    """Return the (N,) weights of the targets' classes, 1 for background."""
    if not weight.numel():
        return None
    weight = at_least_float32(weight)
    known = (target >= 0) & (target < len(weight))
    chosen = weight[target.clamp(0, len(weight) - 1)]
    return torch.where(known, chosen, torch.ones_like(chosen))


def _fill_sigmoid(
    positive: Tensor,
    negative: Tensor,
    target: Tensor,
    weight: Tensor,
    result: Tensor,
    alpha: float,
) -> None:
    """Fill ``result`` from the terms of the true class and of the others."""
    classes = torch.arange(result.shape[1], device=result.device)
    loss = torch.where(
        target[:, None] == classes, -alpha * positive, (alpha - 1) * negative
    )
    factors = _class_weights(weight, target)
    result.copy_(loss if factors is None else loss * factors[:, None])


def sigmoid_focal_loss_forward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    output: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Compute the focal loss of each class on its own.

    Args:
        input: (N, classes), logits.
        target: (N,), class indices; any other is background.
        weight: (classes,), or empty.
        output: (N, classes), filled.
        gamma: Exponent of the modulating factor.
        alpha: Weight of the positive class.
    """
    p = at_least_float32(input).sigmoid()
    positive = (1 - p).pow(gamma) * _log(p)
    negative = p.pow(gamma) * _log(1 - p)
    _fill_sigmoid(positive, negative, target, weight, output, alpha)


def sigmoid_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Fill ``grad_input``; see :func:`sigmoid_focal_loss_forward`."""
    p = at_least_float32(input).sigmoid()
    positive = (1 - p).pow(gamma) * (1 - p - gamma * p * _log(p))
    negative = p.pow(gamma) * (gamma * (1 - p) * _log(1 - p) - p)
    _fill_sigmoid(positive, negative, target, weight, grad_input, alpha)


def _true_class(input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (N,) probabilities of the targets, and a mask of classes."""
    probabilities = at_least_float32(input)
    known = (target >= 0) & (target < input.shape[1])
    index = target.clamp(0, input.shape[1] - 1)[:, None]
    return probabilities.gather(1, index)[:, 0], known


def softmax_focal_loss_forward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    output: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Compute the focal loss of the true class.

    Args:
        input: (N, classes), probabilities.
        target: (N,), class indices; any other has no loss.
        weight: (classes,), or empty.
        output: (N,), filled.
        gamma: Exponent of the modulating factor.
        alpha: Weight of the loss.
    """
    p, known = _true_class(input, target)
    loss = -alpha * (1 - p).pow(gamma) * _log(p)
    factors = _class_weights(weight, target)
    loss = loss if factors is None else loss * factors
    output.copy_(torch.where(known, loss, torch.zeros_like(loss)))


def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Fill ``grad_input``; see :func:`softmax_focal_loss_forward`."""
    p, known = _true_class(input, target)
    # gamma = 0 has no second term, also where p is 1.
    second = gamma * (1 - p).pow(gamma - 1) * p * _log(p) if gamma else 0
    slope = alpha * (second - (1 - p).pow(gamma))
    factors = _class_weights(weight, target)
    slope = slope if factors is None else slope * factors
    slope = torch.where(known, slope, torch.zeros_like(slope))
    classes = torch.arange(input.shape[1], device=input.device)
    truth = (target[:, None] == classes).to(slope.dtype)
    grad_input.copy_(slope[:, None] * (truth - at_least_float32(input)))
