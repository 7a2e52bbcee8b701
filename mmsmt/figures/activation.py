"""Compute class activation maps by Captum's gradients."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmsmt.errors import UserError
from mmsmt.models.smt import SMT


def require_captum() -> None:
    """Check that Captum is installed.

    Raises:
        UserError: It is not.
    """
    if find_spec('captum') is None:
        raise UserError(
            "Activation maps need Captum: pip install 'mmsmt[figures]'. For "
            'the others: --figures 4 5 7 8 9'
        )


def find_activation(
    model: Any,
    backbone: SMT,
    task: str,
    seen: dict,
    label: int | None = None,
    threshold: float = 0.3,
) -> tuple[int, Tensor] | None:
    """Compute the class activation map of an image, by HiResCAM.

    The map of a stage is the product of activation and gradient, summed over
    channels where it is positive (Draelos et al., 2020). Unlike Grad-CAM's
    gradients, which are averaged over the image, it shows where a detector
    or segmenter looks; for a classifier that pools the last map, both are the
    class activation map of Zhou et al. (CVPR 2016). Those of the stages
    that the head takes are scaled to 1 and averaged.

    The gradient is that of the class's score: its logit, the sum of its
    logits over its pixels, or the sum of the scores of its objects.

    Args:
        model (nn.Module): Model of one of the hosts, in evaluation mode.
        backbone (SMT): Its backbone.
        task (str): ``classification``, ``segmentation`` or ``detection``.
        seen (dict): ``inputs`` (1, C, H, W) and ``data_samples``, as the data
            preprocessor gives them.
        label (int, optional): The class; by default the one of the highest
            score, of most pixels, or of the highest sum of scores.
        threshold (float): Score from which objects are counted.

    Returns:
        tuple[int, Tensor] | None: The class and its (h, w) map, 0 or more.
        None if nothing of the class is found.
    """
    from captum.attr import LayerGradientXActivation

    scores = _Scores(model, task, seen['data_samples'], threshold)
    images = seen['inputs']
    prepared = _differentiable(model) if task == 'detection' else nullcontext()
    with prepared:
        with torch.no_grad():
            _, presence = scores.compute(images)
        if label is None:
            label = int(presence.argmax())
        if not presence[label]:
            return None
        layers: list[nn.Module] = [
            getattr(backbone, f'norm{i + 1}') for i in backbone.out_indices
        ]
        if task == 'classification':
            layers = layers[-1:]  # the head takes no other
        found = LayerGradientXActivation(scores, layers).attribute(
            images, target=label
        )
    maps = [x.detach().sum(dim=1, keepdim=True).relu() for x in found]
    resized = [
        F.interpolate(
            x / x.max().clamp(min=1e-12),
            size=maps[0].shape[2:],
            mode='bilinear',
            align_corners=False,
        )
        for x in maps
    ]
    return label, torch.stack(resized).mean(dim=0)[0, 0].cpu()


@contextmanager
def _differentiable(model: Any) -> Iterator[None]:
    """Keep the gradient of a detector's scores, which dense heads detach."""
    from mmdet.models.dense_heads import base_dense_head

    from mmsmt.tta import without_mask_head

    select = base_dense_head.select_single_mlvl
    with (
        without_mask_head(model),  # no share in the scores
        patch.object(
            base_dense_head,
            'select_single_mlvl',
            lambda maps, index, detach=True: select(maps, index, detach=False),
        ),
    ):
        yield


def _to_logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


class _Scores(nn.Module):
    """Score of each class in an image.

    Args:
        model (nn.Module): Model of one of the hosts.
        task (str): Its task.
        samples (list): The data samples of the image.
        threshold (float): Score from which objects are counted.
    """

    def __init__(
        self, model: Any, task: str, samples: list, threshold: float
    ) -> None:
        super().__init__()
        self.model, self.task = model, task
        self.samples, self.threshold = samples, threshold

    def forward(self, images: Tensor) -> Tensor:
        """Map (1, C, H, W) to (1, classes)."""
        return self.compute(images)[0]

    def compute(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute scores (1, classes), and how much there is of a class.

        The latter, (classes,), are probabilities, numbers of pixels, or sums
        of objects' scores; 0 where there is nothing of a class.
        """
        if self.task == 'classification':
            logits = self.model(images, mode='tensor')
            logits = logits[-1] if isinstance(logits, tuple) else logits
            return logits, logits[0].softmax(dim=0)
        if self.task == 'segmentation':
            metas = [sample.metainfo for sample in self.samples]
            logits = self.model.encode_decode(images, metas)
            if logits.shape[1] == 1:  # of the second of two classes
                logits = logits - _to_logit(self.model.decode_head.threshold)
                logits = torch.cat((-logits, logits), dim=1)
            best = logits.argmax(dim=1, keepdim=True)
            chosen = torch.zeros_like(logits).scatter_(1, best, 1.0)
            sums = (logits * chosen).sum(dim=(2, 3))
            return sums, chosen[0].sum(dim=(1, 2))
        # The prediction changes the samples.
        samples = [sample.clone() for sample in self.samples]
        (sample,) = self.model.predict(images, samples, rescale=False)
        objects = sample.pred_instances
        number = len(self.model.dataset_meta['classes'])
        kept = objects.scores >= self.threshold
        sums = objects.scores.new_zeros(number).index_add(
            0, objects.labels[kept], objects.scores[kept]
        )
        return sums[None], sums
