"""Checks of SMT's arguments and input."""

from collections.abc import Sequence

from mmcv.cnn import build_norm_layer
from torch import Tensor, nn

SMALLEST = 32
"""Pixels of an image's shorter side, one of the last map."""


def check_images(x: Tensor, in_channels: int) -> None:
    """Check a batch of images.

    Raises:
        TypeError: The batch is not a floating-point tensor.
        ValueError: The shape is not (B, in_channels, H, W), or the images are
            below 32 x 32 pixels.
    """
    shape = f'(B, {in_channels}, H, W)'
    if not isinstance(x, Tensor) or not x.is_floating_point():
        dtype = getattr(x, 'dtype', None)
        raise TypeError(
            f'SMT expects images as a floating-point tensor {shape}, got '
            f'{type(x).__name__}' + (f' of {dtype}' if dtype else '')
        )
    if x.ndim != 4 or x.shape[1] != in_channels:
        raise ValueError(
            f'SMT expects images of shape {shape}, got {tuple(x.shape)}'
        )
    if min(x.shape[2:]) < SMALLEST:
        raise ValueError(
            f'SMT expects images of at least {SMALLEST} x {SMALLEST} pixels, '
            f'got {x.shape[2]} x {x.shape[3]} (H x W)'
        )


def check_int(name: str, value: int, low: int, high: int | None = None) -> int:
    """Check that a value is an int from ``low`` to ``high``, and return it.

    Raises:
        TypeError: The value is not an int.
        ValueError: The value is out of the range; both bounds are allowed.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f'{name} must be an int, got {value!r}')
    if value < low or (high is not None and value > high):
        allowed = f'>= {low}' if high is None else f'from {low} to {high}'
        raise ValueError(f'{name} must be {allowed}, got {value}')
    return value


def check_flags(**flags: bool) -> None:
    """Check that settings are True or False.

    Raises:
        TypeError: One is not, such as the text 'False'.
    """
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise TypeError(f'{name} must be True or False, got {value!r}')


def check_norm(norm_cfg: dict, channels: Sequence[int]) -> None:
    """Check that a norm is one of maps (B, C, H, W).

    Args:
        norm_cfg (dict): Its settings.
        channels (Sequence[int]): Channels of maps.

    Raises:
        TypeError: The settings are no dict.
        ValueError: It is unknown, does not divide the channels, or is of
            tokens or other maps.
    """
    if not isinstance(norm_cfg, dict):
        raise TypeError(
            "norm_cfg must be a dict such as dict(type='BN'), got "
            f'{norm_cfg!r}'
        )
    try:
        norm = [build_norm_layer(norm_cfg, x)[1] for x in channels][0]
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        reason = error.args[0] if error.args else 'a setting is missing'
        if norm_cfg.get('type') == 'GN' and 'num_groups' not in norm_cfg:
            reason = 'GN needs num_groups'
        elif isinstance(error, KeyError) and 'type' in norm_cfg:
            reason = f'there is no norm {norm_cfg["type"]!r}'
        raise ValueError(
            f'norm_cfg={norm_cfg!r} makes no norm of maps with '
            f'{", ".join(map(str, channels))} channels: {reason}'
        ) from error
    others = (
        *(nn.BatchNorm1d, nn.BatchNorm3d),
        *(nn.InstanceNorm1d, nn.InstanceNorm3d),
    )
    if type(norm) is nn.LayerNorm or isinstance(norm, others):
        raise ValueError(
            f'norm_cfg={norm_cfg!r} is not a norm of maps (B, C, H, W). It is '
            'the batch norm of the stem and of SAA (BN, SyncBN, GN); the '
            'layer norms of blocks are fixed.'
        )


def check_rates(drop_path_rate: float, layer_scale_init_value: float) -> None:
    """Check the rate of stochastic depth and the value of LayerScale.

    Raises:
        TypeError: A value is no number.
        ValueError: A value is out of its range.
    """
    for name, value in (
        ('drop_path_rate', drop_path_rate),
        ('layer_scale_init_value', layer_scale_init_value),
    ):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f'{name} must be a number, got {value!r}')
    if not 0 <= drop_path_rate < 1:
        raise ValueError(
            f'drop_path_rate must be in [0, 1), got {drop_path_rate}'
        )
    if layer_scale_init_value < 0:
        raise ValueError(
            'layer_scale_init_value must be 0 (no LayerScale) or positive, '
            f'got {layer_scale_init_value}'
        )


def parse_out_indices(out_indices: int | Sequence[int]) -> tuple[int, ...]:
    """Return the indices of output stages as a tuple.

    Raises:
        TypeError: They are no numbers.
        ValueError: The indices are not increasing numbers from 0 to 3.
    """
    if not isinstance(out_indices, (int, list, tuple)):
        raise TypeError(
            'out_indices must be a stage number or a tuple of them, got '
            f'{out_indices!r}'
        )
    indices = (
        (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
    )
    if not indices or sorted(set(indices) & set(range(4))) != list(indices):
        raise ValueError(
            'out_indices must be increasing stage numbers from 0 to 3, '
            f'got {out_indices!r}'
        )
    return indices
