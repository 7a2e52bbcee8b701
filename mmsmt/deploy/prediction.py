"""Hold what a model finds in a picture."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

BEST = 5
"""Classes of an image that are given, the likeliest first."""


@dataclass
class Prediction:
    """Hold the objects or classes that a model finds in a picture.

    Args:
        name (str): Relative path of the picture.
        image (np.ndarray): Its (H, W, 3) uint8 pixels, in BGR order, or (H, W)
            grey ones.
        sample (BaseDataElement): The host's data sample.
        predictor (Predictor): The one that made it.
        video (Video, optional): The one that the picture is a frame of.
        source (str): File, URL, or frame.
    """

    name: str
    image: np.ndarray
    sample: Any
    predictor: Any
    video: Any = None
    source: str = ''

    @property
    def labels(self) -> np.ndarray:
        """Class numbers: (N,) of objects, or the :data:`BEST` of an image."""
        if self.predictor.task == 'classification':
            scores = self.sample.pred_score
            best = scores.topk(min(BEST, scores.numel())).indices
            return best.cpu().numpy()
        return self._objects().labels.cpu().numpy()

    @property
    def scores(self) -> np.ndarray:
        """Scores from 0 to 1, of :attr:`labels`."""
        if self.predictor.task == 'classification':
            scores = self.sample.pred_score.float().cpu().numpy()
            return scores[self.labels]
        return self._objects().scores.float().cpu().numpy()

    @property
    def names(self) -> list[str]:
        """Class names, of :attr:`labels`."""
        return [self.predictor.classes[label] for label in self.labels]

    @property
    def boxes(self) -> np.ndarray:
        """(N, 4) corners x1, y1, x2, y2 of objects, in pixels."""
        return self._objects().bboxes.float().cpu().numpy().reshape(-1, 4)

    @property
    def masks(self) -> np.ndarray | None:
        """(N, H, W) bool masks of objects, None if the model has none."""
        masks = self._objects().get('masks')
        return None if masks is None else np.asarray(_to_numpy(masks), bool)

    @property
    def class_map(self) -> np.ndarray:
        """(H, W) int64 class number of each pixel, by segmentation."""
        found = _to_numpy(self.sample.pred_sem_seg.data[0])
        return found.astype(np.int64, copy=False)  # float of two classes

    def draw(self) -> Image.Image:
        """Draw it on the picture, by the host's visualizer."""
        return Image.fromarray(self.predictor.draw(self))

    def show(self) -> None:
        """Open the drawing in the system's viewer."""
        self.draw().show()

    def save(self, path: str | os.PathLike) -> None:
        """Save the drawing in a file."""
        self.draw().save(path)

    def _objects(self) -> Any:
        if self.predictor.task != 'detection':
            raise AttributeError(
                f'A {self.predictor.task} model predicts no boxes.'
            )
        return self.sample.pred_instances


def _to_numpy(value: Any) -> np.ndarray:
    return value.cpu().numpy() if torch.is_tensor(value) else np.asarray(value)
