"""Exported files in the place of their models, for the hosts' loops."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel
from mmengine.structures import InstanceData, PixelData
from torch import Tensor
from torch.nn import functional as F

from mmsmt.data.configured import TASKS, iter_datasets, type_name
from mmsmt.registry import MODELS

from .description import Description, ExportError
from .files import find_format, open_runtime


@MODELS.register_module()
class ExportedModel(BaseModel):
    """An exported file that predicts as the model of a host does.

    Args:
        path (str | PathLike): The file.
        align_corners (bool): Of a segmenter's head.
        data_preprocessor (dict, optional): Not used: the file does it.

    Raises:
        ExportError: The file cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        align_corners: bool = False,
        data_preprocessor: dict | None = None,
    ) -> None:
        super().__init__()
        self.runtime = open_runtime(Path(path))
        self.path, self.align_corners = path, align_corners

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: a file only predicts."""
        raise ExportError(f"'{self.path}' predicts, and cannot be trained.")

    def test_step(self, data: Any) -> list:
        """Predict on a batch of the host's loader.

        Args:
            data (dict): ``inputs``, (3, H, W) BGR images, one tensor or a
                list; ``data_samples`` of the host.

        Returns:
            list: The samples with predictions, as the host's model gives.
        """
        samples = data['data_samples']
        for image, sample in zip(data['inputs'], samples, strict=True):
            size = self.runtime.description.size
            if size and tuple(image.shape[-2:]) != size:
                raise ExportError(
                    f"'{self.path}' takes images of {size[1]}x{size[0]}, not "
                    f'{image.shape[-1]}x{image.shape[-2]}.'
                )
            if image.dtype != torch.uint8:  # by to_float32
                image = image.round().clamp(0, 255).to(torch.uint8)
            rgb = np.ascontiguousarray(image.flip(0).numpy()[None])
            number = self.runtime.description.batch or 1
            outputs = self.runtime.run(rgb.repeat(number, 0))
            results = [torch.from_numpy(np.array(x[0])) for x in outputs]
            self._fill(sample, results, tuple(image.shape[-2:]))
        return samples

    val_step = test_step

    def _fill(
        self, sample: Any, results: Sequence[Tensor], size: tuple
    ) -> None:
        task = self.runtime.description.task
        if task == 'classification':
            score = results[0]
            sample.set_pred_score(score)
            sample.set_pred_label(score.argmax().reshape(1))
        elif task == 'segmentation':
            self._fill_map(sample, results[0], size)
        else:
            self._fill_objects(sample, results)

    def _fill_map(self, sample: Any, logits: Tensor, size: tuple) -> None:
        """Resize logits as mmseg does: to the image, then to the original."""
        divisor = self.runtime.description.divisor
        padded = [side + -side % divisor for side in size]
        logits = self._resize(logits, padded)[:, : size[0], : size[1]]
        logits = self._resize(logits, sample.ori_shape)
        sample.set_data(
            dict(
                seg_logits=PixelData(data=logits),
                pred_sem_seg=PixelData(data=logits.argmax(0, keepdim=True)),
            )
        )

    def _resize(self, x: Tensor, size: Sequence[int]) -> Tensor:
        return F.interpolate(
            x[None],
            size=tuple(size),
            mode='bilinear',
            align_corners=self.align_corners,
        )[0]

    def _fill_objects(self, sample: Any, results: Sequence[Tensor]) -> None:
        from mmdet.models.roi_heads.mask_heads import FCNMaskHead

        boxes, scores, labels, *masks = results
        real = scores > 0
        boxes, labels = boxes[real], labels[real]
        found = InstanceData(scores=scores[real], labels=labels)
        if masks and len(boxes):
            threshold = self.runtime.description.mask_threshold
            found.masks = FCNMaskHead._predict_by_feat_single(
                SimpleNamespace(class_agnostic=True),
                masks[0][real][:, None],
                boxes.clone(),
                labels,
                sample.metainfo,
                ConfigDict(mask_thr_binary=threshold),
                rescale=True,
                activate_map=True,
            )
        elif masks:
            found.masks = torch.zeros(0, *sample.ori_shape[:2]).bool()
        scale = torch.tensor(sample.scale_factor, dtype=boxes.dtype)
        found.bboxes = boxes / scale.repeat(2)
        sample.pred_instances = found


def use_exported(cfg: Config, path: str | os.PathLike) -> Description | None:
    """Put an exported file in the place of a config's model.

    Args:
        cfg (Config): The config, changed in place.
        path (str | PathLike): A file, of this or another kind.

    Returns:
        Description: Of the file; None if it is no exported one.

    Raises:
        ExportError: It is, and cannot be read, or is of another task.
    """
    if not find_format(Path(path)):
        return None
    if '://' in str(path):
        raise ExportError(
            f"'{path}' is not fetched: exported files are opened from this "
            'machine.'
        )
    description = open_runtime(Path(path)).description
    task = TASKS.get(cfg.get('default_scope') or '')
    if description.task != task:
        raise ExportError(
            f"'{path}' is a model of {description.task}, and the config of "
            f'{task}.'
        )
    if description.size:
        fit_pipelines(cfg, description.size)
    head = cfg.model.get('decode_head') or {}
    head = head[-1] if isinstance(head, list) else head
    cfg.model = ConfigDict(
        type='mmsmt.ExportedModel',
        path=str(path),
        align_corners=head.get('align_corners', False),
    )
    return description


def fit_pipelines(cfg: Config, size: Sequence[int]) -> None:
    """Make a config's test images of one size.

    Those of detectors keep their proportions, and get a border on the right
    or below. Those of classifiers are cropped as before, in proportion.

    Args:
        cfg (Config): The config, changed in place.
        size (Sequence[int]): Height and width.
    """
    height, width = size
    for dataset in iter_datasets(cfg, 'test_dataloader'):
        pipeline = dataset.get('pipeline') or []
        crops = [s for s in pipeline if type_name(s) == 'CenterCrop']
        edges = [s for s in pipeline if type_name(s) == 'ResizeEdge']
        if crops and edges:
            before = crops[0].crop_size
            before = before if isinstance(before, int) else min(before)
            crops[0].crop_size = (width, height)
            edges[0].scale = round(
                edges[0].scale * max(width, height) / before
            )
            continue
        for number, step in enumerate(pipeline, 1):
            if type_name(step) != 'Resize':
                continue
            step.scale, step.keep_ratio = (width, height), False
            if cfg.default_scope == 'mmdet':
                step.type = 'mmsmt.ResizeInto'
                border = ConfigDict(type='Pad', size=(width, height))
                pipeline = [*pipeline[:number], border, *pipeline[number:]]
                dataset.pipeline = pipeline
            break
