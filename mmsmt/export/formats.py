"""Write models as ONNX, OpenVINO and torch.export files."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.utils import digit_version
from torch import Tensor, nn

from mmsmt.runtimes.description import (
    KEY,
    SUFFIXES,
    Description,
    ExportError,
)

from .lowering import halve, quantize
from .pooling import pooling_by_matrices
from .whole import Whole

OPSET = 17  # has LayerNormalization; RoiAlign is aligned from 16 on


def write_model(
    whole: Whole,
    kind: str,
    path: Path,
    description: Description,
    images: Iterable[np.ndarray] = (),
) -> list[Path]:
    """Write a model to a new file.

    Args:
        whole (Whole): The model.
        kind (str): One of :data:`SUFFIXES`.
        path (Path): The file; of OpenVINO the ``.xml``, its weights beside.
        description (Description): Stored in the file.
        images (Iterable[np.ndarray]): Inputs to calibrate int8 on.

    Returns:
        list[Path]: The files written.

    Raises:
        ExportError: The exporter cannot take the model.
    """
    height, width = description.size or (128, 160)
    example = torch.randint(
        *(0, 256, (description.batch or 2, 3, height, width)),
        dtype=torch.uint8,
    )
    whole = whole.eval()
    with torch.no_grad(), pooling_by_matrices(whole), _quiet():
        try:
            if kind == 'torch-export':
                _write_export(whole, example, path, description)
            elif kind == 'onnx':
                _write_onnx(whole, example, path, description, images)
            else:
                # OpenVINO rounds to fp16 itself, and takes int8 from ONNX.
                half = description.precision == 'fp16'
                precision = 'fp32' if half else description.precision
                with tempfile.TemporaryDirectory() as folder:
                    source = Path(folder, 'model.onnx')
                    first = replace(description, precision=precision)
                    _write_onnx(whole, example, source, first, images)
                    _convert_to_openvino(source, path, description)
        except ExportError:
            raise
        except (RuntimeError, NotImplementedError, TypeError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ExportError(
                f'{type(whole.model).__name__} cannot be exported as {kind} '
                f'by torch {torch.__version__}: {lines[0][:300]}'
            ) from error
    return list_files(path)


def list_files(path: Path) -> list[Path]:
    """Return the files of a model: OpenVINO's weights lie beside."""
    if path.suffix == SUFFIXES['openvino']:
        return [path, path.with_suffix('.bin')]
    return [path]


def _write_onnx(
    whole: Whole,
    example: Tensor,
    path: Path,
    description: Description,
    images: Iterable[np.ndarray],
) -> None:
    import onnx

    axes = {} if description.batch else {0: 'batch'}
    if description.size is None:
        axes |= {2: 'height', 3: 'width'}
    outputs = [*description.outputs]
    dynamic = {'images': axes}
    if not description.batch:
        dynamic |= {name: {0: 'batch'} for name in outputs}
    trace_onnx(whole, example, path, outputs, dynamic if axes else None)
    model = onnx.load(str(path))
    if description.precision == 'fp16':
        model = halve(model)
    elif description.precision == 'int8':
        model = quantize(path, images)
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, description.dump()
    onnx.save(model, str(path))


def trace_onnx(
    model: nn.Module,
    images: Tensor,
    path: Path,
    outputs: list[str] | None = None,
    axes: dict[str, dict[int, str]] | None = None,
) -> None:
    """Write what a model computes of ``images`` as ONNX.

    Args:
        model (nn.Module): The model, in evaluation mode.
        images (Tensor): Its input, named ``images`` in the file.
        path (Path): The file.
        outputs (list[str], optional): Names of its outputs.
        axes (dict, optional): Names of the axes of any size, by the names of
            the input and the outputs; all have the size of ``images`` if None.
    """
    options: dict[str, Any] = {}
    if digit_version(torch.__version__) >= digit_version('2.5'):
        options['dynamo'] = False  # it keeps the suppression one operator
    with torch.no_grad(), _quiet():
        torch.onnx.export(
            *(model, (images,), str(path)),
            opset_version=OPSET,
            input_names=['images'],
            output_names=outputs,
            dynamic_axes=axes,
            **options,
        )


def _convert_to_openvino(
    source: Path, path: Path, description: Description
) -> None:
    import openvino

    model = openvino.convert_model(str(source))
    model.set_rt_info(description.dump(), [KEY])
    half = description.precision == 'fp16'
    openvino.save_model(model, str(path), compress_to_fp16=half)


def _write_export(
    whole: Whole, example: Tensor, path: Path, description: Description
) -> None:
    if hasattr(whole.model, 'forward_transformer'):
        raise ExportError(
            f'{type(whole.model).__name__} is not exported as torch-export: '
            "mmdet's transformers read the sizes of maps from tensors, which "
            'torch.export cannot trace. --format onnx takes them.'
        )
    program = torch.export.export(whole, (example,), strict=False)
    torch.export.save(
        program, str(path), extra_files={f'{KEY}.json': description.dump()}
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the exporters' warnings of shapes that are traced."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(before)
