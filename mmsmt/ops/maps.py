"""Operators of maps: CARAFE, masked convolution, point-wise attention."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .common import as_dtype_of, differentiate


def _carafe(
    features: Tensor, masks: Tensor, kernel: int, groups: int, scale: int
) -> Tensor:
    height, width = features.shape[2:]
    pad = (kernel - 1) // 2
    padded = F.pad(features, (pad, pad, pad, pad))
    masks = masks.unflatten(1, (groups, kernel * kernel))
    output = None
    for i in range(kernel * kernel):
        y, x = divmod(i, kernel)
        moved = padded[:, :, y : y + height, x : x + width]
        moved = moved.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        part = moved.unflatten(1, (groups, -1)) * masks[:, :, i, None]
        output = part if output is None else output + part
    return output.flatten(1, 2)


def carafe_naive_forward(
    features: Tensor,
    masks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Upsample with a separate kernel for each target cell.

    Wang et al., "CARAFE", ICCV 2019, equation 4.

    Args:
        features: (B, C, H, W).
        masks: (B, group_size * kernel_size ** 2, sH, sW).
        output: (B, C, sH, sW), filled.
        kernel_size: Size of the kernels, odd.
        group_size: Number of channel groups, with a kernel each.
        scale_factor: Factor s of the upsampling.
    """
    features, masks = as_dtype_of(features, masks)
    output.copy_(
        _carafe(features, masks, kernel_size, group_size, scale_factor)
    )


def carafe_naive_backward(
    grad_output: Tensor,
    features: Tensor,
    masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill both gradients; see :func:`carafe_naive_forward`."""
    gradients = differentiate(
        lambda x, y: _carafe(x, y, kernel_size, group_size, scale_factor),
        as_dtype_of(features, masks),
        grad_output,
    )
    grad_input.copy_(gradients[0])
    grad_masks.copy_(gradients[1])


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    **geometry: int,
) -> None:
    """Compute :func:`carafe_naive_forward`.

    ``rfeatures`` keeps the features for :func:`carafe_backward`, which has no
    other access to them; the other buffers are not used.
    """
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, **geometry)


def carafe_backward(
    grad_output: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rgrad_output: Tensor,
    rgrad_input_hs: Tensor,
    rgrad_input: Tensor,
    rgrad_masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    **geometry: int,
) -> None:
    """Compute :func:`carafe_naive_backward`; buffers are not used."""
    carafe_naive_backward(
        grad_output, rfeatures, masks, grad_input, grad_masks, **geometry
    )


def masked_im2col_forward(
    im: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Gather the neighbourhoods of some cells.

    Args:
        im: (1, C, H, W).
        mask_h_idx: (K,), rows of the cells.
        mask_w_idx: (K,), columns of the cells.
        col: (C * kernel_h * kernel_w, K), filled.
        kernel_h: Height of the neighbourhood.
        kernel_w: Width of the neighbourhood.
        pad_h: Zeros above and below.
        pad_w: Zeros left and right.
    """
    padded = F.pad(im[0], (pad_w, pad_w, pad_h, pad_h))
    rows = mask_h_idx.long() + torch.arange(
        kernel_h, device=im.device
    ).unsqueeze(1)
    columns = mask_w_idx.long() + torch.arange(
        kernel_w, device=im.device
    ).unsqueeze(1)
    parts = padded[:, rows[:, None], columns[None]]  # (C, kh, kw, K)
    col.copy_(parts.flatten(0, 2))


def masked_col2im_forward(
    col: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    im: Tensor,
    height: int,
    width: int,
    channels: int,
) -> None:
    """Write the results of some cells into a map.

    Args:
        col: (channels, K).
        mask_h_idx: (K,), rows of the cells.
        mask_w_idx: (K,), columns of the cells.
        im: (1, channels, height, width); other cells are unchanged.
        height: Height of the map.
        width: Width of the map.
        channels: Channels of the map.
    """
    im[0, :, mask_h_idx.long(), mask_w_idx.long()] = col.to(im.dtype)


def _psa_places(
    psa_type: int,
    size: tuple[int, int],
    mask: tuple[int, int],
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Return the place of each relative value in the map of all cells.

    Returns:
        (H, W, hm, wm) flat indices of the result, and a mask of the places
        inside the map.
    """
    (h, w), (hm, wm) = size, mask
    y = torch.arange(h, device=device)[:, None] + (
        torch.arange(hm, device=device) - (hm - 1) // 2
    )
    x = torch.arange(w, device=device)[:, None] + (
        torch.arange(wm, device=device) - (wm - 1) // 2
    )
    y, x = y[:, None, :, None], x[None, :, None, :]
    inside = (y >= 0) & (y < h) & (x >= 0) & (x < w)
    other = y * w + x
    here = (torch.arange(h * w, device=device)).view(h, w, 1, 1)
    channel, place = (other, here) if psa_type == 0 else (here, other)
    return channel * (h * w) + place, inside


def psamask_forward(
    input: Tensor,
    output: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Turn maps relative to each cell into maps of all cells.

    Zhao et al., "PSANet", ECCV 2018, section 3.3.

    Args:
        input: (B, h_mask * w_mask, H, W).
        output: (B, H * W, H, W), filled at the places inside the map.
        psa_type: 0 collect, 1 distribute.
        num_: Batch size B.
        h_feature: Height H of the map.
        w_feature: Width W of the map.
        h_mask: Height of the relative map.
        w_mask: Width of the relative map.
        half_h_mask: Not used.
        half_w_mask: Not used.
    """
    places, inside = _psa_places(
        psa_type, (h_feature, w_feature), (h_mask, w_mask), input.device
    )
    values = input.unflatten(1, (h_mask, w_mask)).permute(0, 3, 4, 1, 2)
    output.view(num_, -1)[:, places[inside]] = values[:, inside]


def psamask_backward(
    grad_output: Tensor,
    grad_input: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Fill ``grad_input``; see :func:`psamask_forward`."""
    places, inside = _psa_places(
        psa_type, (h_feature, w_feature), (h_mask, w_mask), grad_output.device
    )
    target = grad_input.unflatten(1, (h_mask, w_mask)).permute(0, 3, 4, 1, 2)
    target[:, inside] = grad_output.reshape(num_, -1)[:, places[inside]]
