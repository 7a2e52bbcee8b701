"""Load a trained model and predict, by the inferencers of its host."""

import contextlib
import copy
import io
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import cv2
import matplotlib
import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import default_collate
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner.amp import autocast

from mmsmt.data.check import check_num_classes, find_classes
from mmsmt.data.configured import (
    TASKS,
    find_class,
    is_palette,
    iter_datasets,
    type_name,
)
from mmsmt.data.convert.pictures import colour_of
from mmsmt.data.findings import Findings
from mmsmt.data.images import find_padding
from mmsmt.errors import UserError
from mmsmt.launch.checkpoints import read_safely
from mmsmt.launch.config import apply_options, load_config
from mmsmt.models.checks import SMALLEST
from mmsmt.models.smt import SMT
from mmsmt.runtimes.model import use_exported
from mmsmt.weights import read_checkpoint, read_classes
from mmsmt.weights.host_models import has_smt, require_whole

from .prediction import Prediction
from .sources import (
    Picture,
    PictureError,
    Reader,
    find_pictures,
    iter_pictures,
)

VISUALIZERS = {
    'mmdet': 'DetLocalVisualizer',
    'mmseg': 'SegLocalVisualizer',
    'mmpretrain': 'UniversalVisualizer',
}
THRESHOLD = 0.3
"""Score from which objects are kept, as in the hosts' pictures."""


class PredictError(UserError):
    """Error for a config or a checkpoint that cannot predict."""


class Predictor:
    """A trained model with its test pipeline.

    The host's inferencer builds both. Images whose processed sizes differ are
    not computed together: SMT's attention sees padding, which changes its
    features.

    Args:
        config (str | Config): File or content.
        checkpoint (str): File or URL of the trained model, or a file that
            ``mmsmt export`` wrote.
        device (str, optional): Such as ``cpu`` or ``cuda:1``; by default a
            GPU if there is one.
        amp (bool): Compute in bfloat16 on a CPU, in float16 on a GPU.
        cfg_options (dict, optional): Settings to override, by dotted key.

    Raises:
        LaunchError: The config cannot be read.
        CheckpointError: The checkpoint cannot be read, or does not fit.
        PredictError: The config has no test pipeline, or the device is
            absent.
        DataError: The number of classes does not fit the model.
    """

    def __init__(
        self,
        config: str | os.PathLike | Config,
        checkpoint: str | os.PathLike,
        device: str | None = None,
        amp: bool = False,
        cfg_options: dict | None = None,
    ) -> None:
        if isinstance(config, Config):
            cfg = copy.deepcopy(config)
            apply_options(cfg, cfg_options or {})
        else:
            cfg = load_config(str(config), cfg_options=cfg_options)
        scope = cfg.get('default_scope')
        if scope not in TASKS:
            raise PredictError(
                f'default_scope is {scope!r}, not one of {", ".join(TASKS)}.'
            )
        self.task = TASKS[scope]
        self._amp = amp
        self.reader = find_reader(cfg)
        path: str | None = None
        exported = use_exported(cfg, checkpoint)
        if exported:
            if amp or device not in (None, 'cpu'):
                raise PredictError(
                    f"'{checkpoint}' is an exported file: its runtime chooses "
                    'device and precision. Leave out --amp and --device.'
                )
            self.device, self.classes = 'cpu', exported.classes
        else:
            self.device = _choose_device(device)
            path = read_safely(str(checkpoint))
            self.classes = _find_classes_of(cfg, path)
        self.lacks_letters = False
        self.palette = _find_palette(_test_dataset(cfg), len(self.classes))
        with quiet_hosts():
            self._inferencer = _build_inferencer(
                cfg, path, self.device, self.classes, self.palette
            )
        self.model = self._inferencer.model
        if path and not has_smt(self.model):  # which loads completely
            require_whole(self.model, read_checkpoint(path, lazily=True))
        self.model.eval()

    def predict(
        self,
        sources: str | os.PathLike | Sequence[str | os.PathLike],
        threshold: float = THRESHOLD,
        batch: int = 1,
    ) -> list[Prediction]:
        """Predict on all pictures of files, folders, patterns or URLs.

        Args:
            sources (str | PathLike | Sequence): The sources.
            threshold (float): Score from which objects are kept.
            batch (int): Images of one size that are computed together.

        Returns:
            list[Prediction]: In the order of the pictures.

        Raises:
            SourceError: A source does not exist.
            PictureError: A picture cannot be read.
        """
        if isinstance(sources, (str, os.PathLike)):
            sources = [sources]
        found = find_pictures([str(x) for x in sources], self.reader)
        pictures = iter_pictures(found)
        return sorted_by_picture(self.stream(pictures, threshold, batch))

    def stream(
        self,
        pictures: Iterable[Picture],
        threshold: float = THRESHOLD,
        batch: int = 1,
        skip: Callable[[Picture, PictureError], None] | None = None,
    ) -> Iterator[tuple[int, Prediction]]:
        """Predict on pictures as they come, those of one size together.

        Args:
            pictures (Iterable[Picture]): The pictures.
            threshold (float): Score from which objects are kept.
            batch (int): Images of one size that are computed together.
            skip (Callable, optional): Called with a picture that cannot be
                read or needs too much memory; without it, that is an error.

        Yields:
            tuple[int, Prediction]: Number of the picture, and its prediction.
        """
        waiting: dict[tuple[int, ...], list] = {}
        for number, picture in enumerate(pictures):
            try:
                image = picture.read()
                data = self.prepare(image)
            except PictureError as error:
                if skip is None:
                    raise
                skip(picture, error)
                continue
            group = waiting.setdefault(tuple(data['inputs'].shape), [])
            group.append((number, picture, image, data))
            if len(group) >= batch:
                del waiting[tuple(data['inputs'].shape)]
                yield from self._compute(group, threshold, skip)
            elif sum(map(len, waiting.values())) >= 4 * batch:
                size = next(iter(waiting))  # of the longest wait
                yield from self._compute(waiting.pop(size), threshold, skip)
        for group in waiting.values():
            yield from self._compute(group, threshold, skip)

    def draw(self, prediction: Prediction) -> np.ndarray:
        """Draw a prediction; return (H, W, 3) pixels in RGB order."""
        image = prediction.image
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, -1)
        image = np.ascontiguousarray(image[..., ::-1])
        visualizer = self._visualizer
        # Names may have a $, and letters that no font has.
        with (
            matplotlib.rc_context({'text.parse_math': False}),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter('always')
            if self.task == 'classification':
                visualizer.visualize_cls(
                    image, prediction.sample, classes=list(self.classes)
                )
            else:
                options: dict = {'draw_gt': False}
                if self.task == 'detection':
                    options['pred_score_thr'] = 0.0  # fewer are kept
                visualizer.add_datasample(
                    prediction.name, image, prediction.sample, **options
                )
            pixels = visualizer.get_image()
        if any('missing from' in str(x.message) for x in caught):
            self.lacks_letters = True
        return pixels

    def prepare(self, image: np.ndarray) -> dict:
        """Apply the test pipeline, except for loading.

        Args:
            image (np.ndarray): (H, W, 3) uint8 pixels, in BGR order.

        Returns:
            dict: ``inputs``, a (C, h, w) tensor, and ``data_samples``.

        Raises:
            PictureError: It is too thin for the pipeline or for SMT.
        """
        size = image.shape[:2]
        given: Any = image
        if self.task == 'classification':
            given = dict(img=image, img_shape=size, ori_shape=size)
        try:
            data = self._inferencer.pipeline(given)
        except cv2.error as error:  # of images that are very thin
            raise PictureError(
                'images fail in the test pipeline',
                f' ({size[1]}x{size[0]}: {error.err})',
            ) from None
        self._check_size(*data['inputs'].shape[-2:])
        return data

    def _check_size(self, height: int, width: int) -> None:
        if not isinstance(getattr(self.model, 'backbone', None), SMT):
            return
        divisor, fixed = find_padding(self.model.data_preprocessor)
        side = min(height, width)
        if not fixed and side + -side % divisor < SMALLEST:
            raise PictureError(
                f'images have a side below {SMALLEST} pixels after the test '
                'pipeline',
                f' ({width}x{height})',
            )

    def collate(self, items: list[dict]) -> dict:
        """Collate what :meth:`prepare` returned of images of one size."""
        collate = getattr(self._inferencer, 'collate_fn', default_collate)
        return collate(items)

    def _compute(
        self, group: list, threshold: float, skip: Callable | None
    ) -> Iterator[tuple[int, Prediction]]:
        data = self.collate([item[-1] for item in group])
        try:
            with self._autocast():
                samples = self._inferencer.forward(data)
        except (MemoryError, RuntimeError) as error:
            if not _is_of_memory(error) or skip is None:
                raise
            for _, picture, image, _ in group:
                height, width = image.shape[:2]
                skip(
                    picture,
                    PictureError(
                        'images need more memory than there is',
                        f' ({width}x{height})',
                    ),
                )
            return
        for (number, picture, image, _), sample in zip(group, samples):
            if self.task == 'detection':
                objects = sample.pred_instances
                sample.pred_instances = objects[objects.scores >= threshold]
            yield (
                number,
                Prediction(
                    picture.name,
                    image,
                    sample,
                    self,
                    picture.video,
                    picture.source,
                ),
            )

    def _autocast(self) -> Any:
        if not self._amp:
            return contextlib.nullcontext()
        kind = torch.device(self.device).type
        dtype = torch.bfloat16 if kind == 'cpu' else torch.float16
        return autocast(device_type=kind, dtype=dtype)

    @property
    def _visualizer(self) -> Any:
        found = self._inferencer.visualizer
        if found is None:  # mmpretrain's is made when it draws
            from mmpretrain.visualization import UniversalVisualizer

            found = self._inferencer.visualizer = UniversalVisualizer()
        return found


def _is_of_memory(error: Exception) -> bool:
    return isinstance(
        error, (MemoryError, torch.cuda.OutOfMemoryError)
    ) or 'allocate memory' in str(error)


def sorted_by_picture(
    predictions: Iterable[tuple[int, Prediction]],
) -> list[Prediction]:
    """Return predictions in the order of their pictures."""
    return [p for _, p in sorted(predictions, key=lambda item: item[0])]


def _choose_device(device: str | None) -> str:
    chosen = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise PredictError(
            f"--device '{chosen}' cannot be used: {reason}"
        ) from None
    return chosen


def _test_dataset(cfg: Config) -> ConfigDict:
    """Return the innermost dataset of the test loader.

    Raises:
        PredictError: There is none, or it loads no image.
    """
    for dataset in iter_datasets(cfg, 'test_dataloader'):
        if any(map(_loads_image, dataset.get('pipeline') or [])):
            return dataset
    raise PredictError(
        f"'{cfg.filename}' has no test_dataloader whose pipeline loads images."
    )


def _loads_image(step: ConfigDict) -> bool:
    return type_name(step) == 'LoadImageFromFile'


def find_reader(cfg: Config) -> Reader:
    """Return the decoder of a config's test pipeline.

    Args:
        cfg (Config): The config.

    Raises:
        PredictError: It loads no image.
    """
    step = next(filter(_loads_image, _test_dataset(cfg).pipeline))
    return Reader(
        step.get('color_type', 'color'), step.get('imdecode_backend', 'cv2')
    )


def _find_classes_of(cfg: Config, checkpoint: str) -> tuple[str, ...]:
    """Return the classes of a checkpoint, or else of the config's data."""
    classes = read_classes(checkpoint)
    findings = Findings()
    if classes is None:
        classes = find_classes(_test_dataset(cfg), findings)
    if classes is None:
        raise PredictError(
            f"Neither '{checkpoint}' nor the test dataset has class names. "
            'Write metainfo=dict(classes=(...)) in the dataset.'
        )
    check_num_classes(cfg, classes, findings)
    findings.raise_errors()
    return tuple(map(str, classes))


def _find_palette(dataset: ConfigDict, number: int) -> np.ndarray:
    """Return (number, 3) colours of a dataset's classes, or spread hues."""
    given = (dataset.get('metainfo') or {}).get('palette')
    stock = getattr(find_class(dataset), 'METAINFO', {}).get('palette')
    for palette in (given, stock):
        if palette and is_palette(palette) and len(palette) == number:
            return np.array(palette, np.uint8)
    return np.array([colour_of(i) for i in range(number)], np.uint8)


@contextlib.contextmanager
def quiet_hosts() -> Iterator[None]:
    """Omit what hosts print and warn of while they build."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        logger = MMLogger.get_instance('mmengine', log_level='WARNING')
        level = logger.level
        logger.setLevel('ERROR')
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                yield
        finally:
            logger.setLevel(level)


def _build_inferencer(
    cfg: Config,
    checkpoint: str | None,
    device: str,
    classes: Sequence[str],
    palette: np.ndarray,
) -> Any:
    """Build the inferencer of the config's host."""
    scope = cfg.default_scope
    # It may be inside others, which inferencers do not expect.
    cfg.test_dataloader.dataset = _test_dataset(cfg)
    init_default_scope(scope)
    if not cfg.get('visualizer'):
        cfg.visualizer = dict(type=VISUALIZERS[scope])
    if scope == 'mmdet':
        from mmdet.apis import DetInferencer

        found = DetInferencer(cfg, checkpoint, device=device)
        found.model.dataset_meta.update(
            classes=tuple(classes),
            palette=[tuple(colour) for colour in palette.tolist()],
        )
    elif scope == 'mmseg':
        from mmseg.apis import MMSegInferencer

        found = MMSegInferencer(
            cfg,
            checkpoint,
            classes=list(classes),
            palette=palette.tolist(),
            device=device,
        )
    else:
        from mmpretrain import ImageClassificationInferencer

        found = ImageClassificationInferencer(
            cfg, checkpoint, device=device, classes=list(classes)
        )
    return found
