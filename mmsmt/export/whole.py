"""Models whole, from images to results, as exporters take them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmsmt.data.images import find_padding
from mmsmt.runtimes.description import ExportError

from .detectors import find_objects

OUTPUTS = {
    'classification': ('scores',),
    'segmentation': ('logits', 'class_map'),
    'detection': ('boxes', 'scores', 'labels'),
}


class Whole(nn.Module):
    """A model of one of the hosts, with its pre- and post-processing.

    Args:
        model (nn.Module): The model, in evaluation mode.
        task (str): ``classification``, ``segmentation`` or ``detection``.

    Raises:
        ExportError: The model's settings cannot be exported.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, task: str) -> None:
        super().__init__()
        self.model: Any = model
        self.task = task
        self.plan = plan = read_plan(self.model.data_preprocessor)
        for name in ('mean', 'std'):
            value = torch.tensor(plan[name]).view(-1, 1, 1)
            self.register_buffer(name, value, persistent=False)
        mode = (getattr(model, 'test_cfg', None) or {}).get('mode')
        if task == 'segmentation' and mode != 'whole':
            raise ExportError(
                f'test_cfg.mode={mode!r} is not exported; '
                'with --cfg-options model.test_cfg.mode=whole it is.'
            )
        head = getattr(model, 'decode_head', None)
        if task == 'segmentation' and getattr(head, 'out_channels', 2) == 1:
            raise ExportError(
                'A segmenter with one output channel (out_channels=1, by a '
                'sigmoid and a threshold) is not exported; with '
                'out_channels=2 and softmax it is.'
            )
        head = getattr(model, 'head', None)
        kinds = [kind.__name__ for kind in type(head).__mro__]
        if 'MultiLabelClsHead' in kinds:
            raise ExportError(
                f'{type(head).__name__} gives each class a probability of its '
                'own: such classifiers are not exported.'
            )
        masks = task == 'detection' and self.model.with_mask
        self.outputs = OUTPUTS[task] + (('masks',) if masks else ())

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute results of images.

        Args:
            images (Tensor): (B, 3, H, W) from 0 to 255, RGB, uint8 or float.

        Returns:
            tuple[Tensor, ...]: Those that :attr:`outputs` names: (B, C)
            probabilities; (B, C, h, w) logits and (B, H, W) int32
            classes; or boxes (B, N, 4) in pixels, scores (B, N), labels
            (B, N) and masks (B, N, 28, 28) of objects.
        """
        height, width = images.shape[-2:]
        x = images.float()
        if not self.plan['rgb']:
            x = x.flip(1)
        x = (x - self.mean) / self.std
        divisor = self.plan['divisor']
        if divisor > 1:
            x = F.pad(
                x, (0, -width % divisor, 0, -height % divisor), value=0.0
            )
        if self.task == 'detection':
            limit = torch.stack(
                [
                    torch.full((), _to_float(side), device=x.device)
                    for side in (width, height)
                ]
            )
            maps = self.model.extract_feat(x)
            return find_objects(self.model, maps, limit)
        if self.task == 'classification':
            logits = self.model(x, mode='tensor')
            logits = logits[-1] if isinstance(logits, tuple) else logits
            return (logits.softmax(-1),)
        maps = self.model.extract_feat(x)
        logits = self.model.decode_head(maps)
        resized = F.interpolate(
            logits,
            size=x.shape[-2:],
            mode='bilinear',
            align_corners=self.model.align_corners,
        )
        resized = resized[:, :, :height, :width]
        return logits, resized.argmax(1).to(torch.int32)


def _to_float(side: Any) -> Any:
    """Convert a side, which is a tensor in traces."""
    return side.float() if torch.is_tensor(side) else float(side)


def read_plan(preprocessor: Any) -> Mapping[str, Any]:
    """Read what a data preprocessor does to images.

    Args:
        preprocessor (nn.Module): That of a model.

    Returns:
        Mapping[str, Any]: ``mean`` and ``std`` of three channels, ``rgb``
        (their order), and ``divisor`` of padded sides.

    Raises:
        ExportError: It does more.
    """
    if not getattr(preprocessor, '_enable_normalize', True):
        mean, std = [0.0] * 3, [1.0] * 3
    else:
        mean = preprocessor.mean.flatten().tolist()
        std = preprocessor.std.flatten().tolist()
    if len(mean) != 3:
        raise ExportError(f'Images of {len(mean)} channels are not exported.')
    swapped = any(
        getattr(preprocessor, name, False)
        for name in ('_channel_conversion', 'channel_conversion', 'to_rgb')
    )
    divisor, fixed = find_padding(preprocessor)
    if fixed:
        raise ExportError('A fixed test_cfg.size of padding is not exported.')
    return dict(mean=mean, std=std, rgb=swapped, divisor=divisor)
