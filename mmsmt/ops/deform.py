"""Deformable convolution and deformable attention."""

import torch
from torch import Tensor

from .common import as_dtype_of, differentiate


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **geometry: int,
) -> None:
    """Convolve at sampling points that are moved by an offset.

    Dai et al., "Deformable Convolutional Networks", ICCV 2017, equation 2.

    Args:
        input: (B, C, H, W).
        weight: (O, C / groups, kH, kW).
        offset: (B, 2 * deform_groups * kH * kW, H', W'), in (y, x) pairs.
        output: (B, O, H', W'), filled.
        columns: Buffer; see :func:`deform_conv_backward_input`.
        ones: Not used.
        geometry: Arguments by mmcv's names: dH, dW (stride), padH, padW,
            dilationH, dilationW, group, deformable_group; kH, kW and
            im2col_step are not used.
    """
    result = torch.ops.torchvision.deform_conv2d(
        *_tensors(input, weight, offset), *_in_order(geometry, _PLAIN), False
    )
    output.copy_(result)


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **geometry: int,
) -> None:
    """Fill the gradients of input and offset.

    torchvision computes all three gradients at once. That of the weight is
    stored in ``columns``, the buffer that mmcv passes to
    :func:`deform_conv_backward_parameters` next.
    """
    result = _backward(input, weight, offset, grad_output, geometry)
    grad_input.copy_(result[0])
    grad_offset.copy_(result[2])
    columns.set_(result[1].to(columns.dtype))  # type: ignore[call-overload]


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float = 1,
    **geometry: int,
) -> None:
    """Fill ``grad_weight`` with the weight's gradient times ``scale``."""
    gradient = columns
    if columns.shape != grad_weight.shape:  # the buffer was not filled
        # The weight's gradient does not depend on the weight's values.
        result = _backward(input, grad_weight, offset, grad_output, geometry)
        gradient = result[1]
    grad_weight.copy_(gradient * scale)


def _tensors(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
) -> list[Tensor]:
    """Return the arguments of torchvision's operator in its order."""
    input, weight, offset = as_dtype_of(input, weight, offset)
    if mask is None:
        mask = input.new_zeros(len(input), 1)
    if bias is None or not bias.numel():
        bias = input.new_zeros(len(weight))
    return [input, weight, offset, mask.to(input), bias.to(input)]


# mmcv's names of stride, padding, dilation and groups, in torchvision's order.
_PLAIN = (
    *('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW'),
    *('group', 'deformable_group'),
)
_MODULATED = (
    *('stride_h', 'stride_w', 'pad_h', 'pad_w', 'dilation_h', 'dilation_w'),
    *('group', 'deformable_group'),
)


def _in_order(
    geometry: dict[str, int], names: tuple[str, ...]
) -> tuple[int, ...]:
    return tuple(geometry[name] for name in names)


def _backward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    geometry: dict[str, int],
) -> tuple[Tensor, ...]:
    tensors = _tensors(input, weight, offset)
    return torch.ops.torchvision._deform_conv2d_backward(
        grad_output.to(tensors[0].dtype),
        *tensors,
        *_in_order(geometry, _PLAIN),
        False,
    )


def _of_size(x: Tensor, size: torch.Size) -> Tensor:
    """Return the values that mmcv reads from a map of another size.

    mmcv's modulated operator reads offsets and masks as plain memory. mmdet's
    DyHead passes those of a map twice as large as the output, and its released
    weights were trained with them.

    Args:
        x: Offset or mask, (B, C, h, w).
        size: Size of the output, (H, W), with at most as many cells.

    Returns:
        (B, C, H, W), the first values of each image.

    Raises:
        ValueError: The output has more cells.
    """
    if x.shape[2:] == size:
        return x
    count = x.shape[1] * size.numel()
    if count > x[0].numel():
        raise ValueError(
            f'offset or mask is of size {tuple(x.shape[2:])}, the output of '
            f'the deformable convolution of size {tuple(size)}'
        )
    return x.flatten(1)[:, :count].reshape(*x.shape[:2], *size)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    with_bias: bool,
    **geometry: int,
) -> None:
    """Convolve at sampling points moved by an offset, times a mask.

    Zhu et al., "Deformable ConvNets v2", CVPR 2019, equation 1.

    Args:
        input: (B, C, H, W).
        weight: (O, C / groups, kH, kW).
        bias: (O,), or empty.
        ones: Not used.
        offset: (B, 2 * deform_groups * kH * kW, H', W'), in (y, x) pairs.
        mask: (B, deform_groups * kH * kW, H', W').
        output: (B, O, H', W'), filled.
        columns: Not used.
        with_bias: Add the bias.
        geometry: Arguments by mmcv's names: stride_h, stride_w, pad_h, pad_w,
            dilation_h, dilation_w, group, deformable_group; kernel_h and
            kernel_w are not used.
    """
    size = output.shape[2:]
    offset, mask = _of_size(offset, size), _of_size(mask, size)
    result = torch.ops.torchvision.deform_conv2d(
        *_tensors(input, weight, offset, mask, bias if with_bias else None),
        *(*_in_order(geometry, _MODULATED), True),
    )
    output.copy_(result)


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    with_bias: bool,
    **geometry: int,
) -> None:
    """Fill the gradients; see :func:`modulated_deform_conv_forward`."""
    size = grad_output.shape[2:]
    offset, mask = _of_size(offset, size), _of_size(mask, size)
    tensors = _tensors(input, weight, offset, mask)
    gradients = torch.ops.torchvision._deform_conv2d_backward(
        grad_output.to(tensors[0].dtype),
        *(*tensors, *_in_order(geometry, _MODULATED), True),
    )
    grad_input.copy_(gradients[0])
    grad_weight.copy_(gradients[1])
    for target, gradient in zip((grad_offset, grad_mask), gradients[2:4]):
        values = target.new_zeros(len(target), target[0].numel())
        values[:, : gradient[0].numel()] = gradient.flatten(1)
        target.copy_(values.view(target.shape))
    if with_bias:
        grad_bias.copy_(gradients[4])


# Attention -------------------------------------------------------------------


def _attend(
    value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor
) -> Tensor:
    from mmcv.ops.multi_scale_deform_attn import (
        multi_scale_deformable_attn_pytorch,
    )

    # tolist() waits for the GPU once instead of once per level.
    return multi_scale_deformable_attn_pytorch(
        value, shapes.tolist(), locations, weights
    )


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Sum weighted samples of the values at a few points of each level.

    Zhu et al., "Deformable DETR", ICLR 2021, equation 3; computed by mmcv's
    PyTorch implementation, which mmcv itself calls on a CPU.

    Args:
        value: (B, sum of H * W, heads, d).
        value_spatial_shapes: (levels, 2), heights and widths.
        value_level_start_index: Not used.
        sampling_locations: (B, Q, heads, levels, points, 2), x and y, 0 to 1.
        attention_weights: (B, Q, heads, levels, points).
        im2col_step: Not used.

    Returns:
        (B, Q, heads * d).
    """
    tensors = _attention_dtype(value, sampling_locations, attention_weights)
    result = _attend(tensors[0], value_spatial_shapes, *tensors[1:])
    return result.to(value.dtype)


def _attention_dtype(*tensors: Tensor) -> list[Tensor]:
    # A GPU can sample in half precision, which saves memory.
    return list(tensors) if tensors[0].is_cuda else as_dtype_of(*tensors)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Fill the three gradients; see :func:`ms_deform_attn_forward`."""
    gradients = differentiate(
        lambda value, *rest: _attend(value, value_spatial_shapes, *rest),
        _attention_dtype(value, sampling_locations, attention_weights),
        grad_output,
    )
    targets = grad_value, grad_sampling_loc, grad_attn_weight
    for target, gradient in zip(targets, gradients):
        target.copy_(gradient)
