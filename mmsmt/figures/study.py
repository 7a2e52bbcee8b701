"""Load models and record what they compute on images."""

import copy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmsmt.deploy.predictor import Predictor, quiet_hosts
from mmsmt.errors import UserError
from mmsmt.models.smt import SMT
from mmsmt.runtimes.files import find_format

from .activation import find_activation
from .drawing import Row
from .recording import Recording, record

RANDOM = 'random'
"""Stands for a checkpoint: random weights."""


class FigureError(UserError):
    """Error for a model or an image that figures cannot be drawn of."""


class Study:
    """A model and what it computes on images.

    Args:
        cfg (Config): Its config.
        checkpoint (str): File or URL of its weights, or :data:`RANDOM`.
        device (str, optional): Such as ``cpu`` or ``cuda:1``.

    Raises:
        CheckpointError: The checkpoint cannot be read, or does not fit.
        FigureError: The backbone is not SMT, or the file was exported.
    """

    def __init__(
        self, cfg: Config, checkpoint: str, device: str | None = None
    ) -> None:
        self.images: list[Row] = []
        self.recordings: list[Recording] = []
        self.activations: list[tuple | None] = []
        if find_format(Path(checkpoint)):
            raise FigureError(
                f"'{checkpoint}' is an exported file, which has no blocks to "
                'record. Give the checkpoint that it was made from.'
            )
        weights = Path(checkpoint).name
        with tempfile.TemporaryDirectory() as folder:
            if checkpoint == RANDOM:
                weights = 'random weights'
                checkpoint = str(Path(folder, 'random.pth'))
                _write_initial_weights(cfg, checkpoint)
            self.predictor = Predictor(cfg, checkpoint, device=device)
        self.label = f'{Path(cfg.filename).stem}, {weights}'
        self._model: Any = self.predictor.model
        self._backbone: Any = getattr(self._model, 'backbone', None)
        if not isinstance(self._backbone, SMT):
            raise FigureError(
                f"The backbone of '{cfg.filename}' is "
                f'{type(self._backbone).__name__}, not SMT.'
            )

    def add(
        self,
        label: str,
        data: dict,
        blocks: bool = True,
        activation: bool = True,
        name: str | None = None,
    ) -> None:
        """Compute an image.

        Args:
            label (str): Name of the image in figures.
            data (dict): As :meth:`.Predictor.prepare` returns it.
            blocks (bool): Record the blocks.
            activation (bool): Compute the class activation map.
            name (str, optional): Class of the map; by default the one found.

        Raises:
            FigureError: There is no such class, or the number of channels
                does not fit.
        """
        classes = self.predictor.classes
        if name is not None and name not in classes:
            raise FigureError(
                f"--class '{name}' is not one of {', '.join(classes)}"
            )
        shown = _to_pixels(data['inputs'])
        seen = self._model.data_preprocessor(
            self.predictor.collate([data]), False
        )
        inputs = seen['inputs']
        if inputs.shape[1] != self._backbone.in_channels:
            raise FigureError(
                f"'{self.label}' takes images of {self._backbone.in_channels} "
                f'channels, and these have {inputs.shape[1]}. Images are read '
                'as the first config reads them.'
            )
        self.images.append(Row(label, shown, tuple(inputs.shape[2:])))
        if blocks:
            self.recordings.append(record(self._backbone, inputs))
        if activation:
            found = find_activation(
                *(self._model, self._backbone, self.predictor.task, seen),
                None if name is None else classes.index(name),
            )
            self.activations.append(found and (classes[found[0]], found[1]))


def _write_initial_weights(cfg: Config, path: str) -> None:
    """Write a config's initial weights, without pre-trained ones."""
    model = copy.deepcopy(cfg.model)
    todo: list[Any] = [model]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            if 'Pretrained' in str(value.get('init_cfg')):
                value['init_cfg'] = None
            todo += value.values()
        elif isinstance(value, (list, tuple)):
            todo += value
    init_default_scope(cfg.default_scope)
    with quiet_hosts(), torch.random.fork_rng():
        torch.manual_seed(0)
        built = MODELS.build(model)
        built.init_weights()
    torch.save(dict(state_dict=built.state_dict()), path)


def _to_pixels(inputs: torch.Tensor) -> np.ndarray:
    """Convert (C, H, W) of a pipeline, BGR, to (H, W, 3) uint8, RGB."""
    if inputs.shape[0] != 3:
        inputs = inputs[:1]
    pixels = inputs.flip(0).permute(1, 2, 0).cpu().numpy()
    if pixels.dtype != np.uint8:
        low, high = pixels.min(), pixels.max()
        pixels = (255 * (pixels - low) / max(high - low, 1e-6)).astype('u1')
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))
