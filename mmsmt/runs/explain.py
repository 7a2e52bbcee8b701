"""Say what an error of a loader or a GPU comes from, and what helps."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dataset import Compose
from torch.utils.data import DataLoader

from mmsmt.errors import UserError

OUT_OF_MEMORY = torch.cuda.OutOfMemoryError
PATHS = ('img_path', 'seg_map_path', 'file_name')
"""Keys of a sample that name its files."""


class SampleError(UserError):
    """Error in the transforms of one sample.

    A loader's worker builds it again from a message that holds its traceback;
    only the last part is kept.
    """

    def __init__(self, message: str) -> None:
        mark = f'{SampleError.__name__}: '
        if message.startswith('Caught ') and mark in message:
            message = message.rpartition(mark)[2].strip()
        super().__init__(message)


class _NamingCompose(Compose):
    """Transforms of a dataset; an error in one names the sample's files."""

    def __init__(self, pipeline: Compose) -> None:
        super().__init__(None)
        self.transforms = pipeline.transforms

    def __call__(self, data: dict) -> dict | None:
        try:
            return super().__call__(data)
        except Exception as error:
            names = [
                f"'{data[key]}'" for key in PATHS if data.get(key) is not None
            ]
            step = _last_transform(error) or 'the pipeline'
            raise SampleError(
                f'{" and ".join(names) or "A sample"} cannot be loaded: '
                f'{step} raised {type(error).__name__}: {error}. '
                'mmsmt check names what is wrong with files.'
            ) from error


def _last_transform(error: BaseException) -> str | None:
    """Return the class of the transform that an error comes from."""
    name, trace = None, error.__traceback__
    while trace:
        owner = trace.tb_frame.f_locals.get('self')
        if callable(getattr(owner, 'transform', None)):
            name = type(owner).__name__
        trace = trace.tb_next
    return name


def name_files(loader: DataLoader) -> None:
    """Let the errors of a loader's transforms name the files of the sample.

    Args:
        loader (DataLoader): The loader; its datasets are changed in place.
    """
    todo = [getattr(loader, 'dataset', None)]
    while todo:
        dataset = todo.pop()
        if type(getattr(dataset, 'pipeline', None)) is Compose:
            dataset.pipeline = _NamingCompose(dataset.pipeline)
        todo += list(getattr(dataset, 'datasets', None) or [])
        if inner := getattr(dataset, 'dataset', None):
            todo.append(inner)


@contextmanager
def explain_loading() -> Iterator[None]:
    """Explain why a worker of a loader died.

    Raises:
        UserError: A worker was killed.
    """
    try:
        yield
    except RuntimeError as error:
        message = str(error)
        if isinstance(error, UserError) or not re.search(
            r'DataLoader worker \(pid.*\) (exited|is killed)', message
        ):
            raise
        raise UserError(
            f'{message.strip().splitlines()[0]}\nA worker that the system '
            'kills has most likely met the limit of memory: of the machine, '
            'of the container or job, or of shared memory (/dev/shm). What '
            'lowers it: fewer workers (train_dataloader.num_workers), a '
            'smaller batch, smaller images.'
        ) from error


@contextmanager
def explain_memory(batch: Any) -> Iterator[None]:
    """Explain that a GPU's memory does not suffice for a batch.

    Args:
        batch: The loader's batch.

    Raises:
        UserError: The memory of the GPU does not suffice.
    """
    try:
        yield
    except OUT_OF_MEMORY as error:
        peak = torch.cuda.max_memory_allocated() / 2**30
        inputs = batch.get('inputs', []) if isinstance(batch, dict) else []
        sizes = {tuple(getattr(image, 'shape', ())[-2:]) for image in inputs}
        shown = ', '.join(f'{h}x{w}' for h, w in sorted(filter(None, sizes)))
        raise UserError(
            f'The memory of the GPU does not suffice: {peak:.1f} GiB in use '
            f'at the peak, {len(inputs)} images of {shown or "unknown size"}. '
            'What lowers it: model.backbone.with_cp=True (the same losses, '
            'about a third more time), --amp, a smaller '
            'train_dataloader.batch_size (with --auto-scale-lr), smaller '
            f'images.\n{str(error).splitlines()[0]}'
        ) from error
