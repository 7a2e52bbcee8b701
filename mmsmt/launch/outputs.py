"""Predictions and pictures that a test writes."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import torch
from mmengine.config import Config
from mmengine.evaluator import DumpResults
from mmengine.runner import Runner

from mmsmt.data.configured import is_palette, iter_datasets
from mmsmt.runs.files import tell_apart


class DumpMaps(DumpResults):
    """Write a segmenter's class maps, without the logits of all classes.

    Those of a test set of ADE20K's size take 400 GB.
    """

    def process(self, data_batch: Any, predictions: Sequence[dict]) -> None:
        """Keep the class maps of a batch, in 8 or 16 bits."""
        kept = []
        for sample in predictions:
            sample = {k: v for k, v in sample.items() if k != 'seg_logits'}
            for name in ('pred_sem_seg', 'gt_sem_seg'):
                if name in sample:
                    data = sample[name]['data']
                    dtype = torch.uint8 if data.max() < 256 else torch.int16
                    sample[name] = dict(sample[name], data=data.to(dtype))
            kept.append(sample)
        super().process(data_batch, kept)


def build_dump(cfg: Config, path: str) -> DumpResults:
    """Return the metric that writes all predictions into a file.

    Args:
        cfg (Config): The config of the test.
        path (str): The file.
    """
    if cfg.get('default_scope') == 'mmdet':
        from mmdet.evaluation import DumpDetResults

        return DumpDetResults(path)
    kind = DumpMaps if cfg.get('default_scope') == 'mmseg' else DumpResults
    return kind(path)


class Pictures:
    """Visualizer whose pictures have the folders of their images.

    The hosts name a picture by its image's file, and a later one replaces
    another of that name.

    Args:
        visualizer (Visualizer): The one that draws.
        paths (Sequence[str]): Files of all images.
    """

    def __init__(self, visualizer: Any, paths: Sequence[str]) -> None:
        self._visualizer = visualizer
        items = [(os.path.basename(path), path) for path in paths]
        self._names = {path: name for name, path in tell_apart(items)}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._visualizer, name)

    def add_datasample(self, *args: Any, **kwargs: Any) -> None:
        """Draw a sample of mmdet."""
        self._draw(self._visualizer.add_datasample, *args, **kwargs)

    def visualize_cls(self, *args: Any, **kwargs: Any) -> None:
        """Draw a sample of mmpretrain."""
        self._draw(self._visualizer.visualize_cls, *args, **kwargs)

    def _draw(self, draw: Any, *args: Any, **kwargs: Any) -> None:
        path = kwargs['data_sample'].get('img_path')
        out = kwargs.get('out_file')
        if out and path in self._names:
            folder = Path(self._names[path]).parent
            kwargs['out_file'] = str(
                Path(out).parent / folder / Path(out).name
            )
        with matplotlib.rc_context({'text.parse_math': False}):  # for a $
            draw(*args, **kwargs)


def place_pictures(runner: Runner) -> None:
    """Let a test's hook keep the folders of images of one name."""
    dataset = runner.test_dataloader.dataset
    if not hasattr(dataset, 'get_data_info'):
        return
    infos = map(dataset.get_data_info, range(len(dataset)))
    paths = [info['img_path'] for info in infos if 'img_path' in info]
    for hook in runner.hooks:
        visualizer = getattr(hook, '_visualizer', None)
        if visualizer is not None:
            hook._visualizer = Pictures(visualizer, paths)


def drop_short_palettes(cfg: Config) -> None:
    """Remove palettes that do not fit their classes: mmdet's fails then."""
    for dataset in iter_datasets(cfg, 'test_dataloader'):
        meta = dataset.get('metainfo') or {}
        palette, classes = meta.get('palette'), meta.get('classes') or ()
        if palette is None:
            continue
        if not is_palette(palette) or len(palette) < len(classes):
            print(
                f'metainfo.palette is no list of {len(classes)} colours (R, '
                'G, B): other colours are drawn.'
            )
            del meta['palette']
        else:
            meta['palette'] = [tuple(colour) for colour in palette]
