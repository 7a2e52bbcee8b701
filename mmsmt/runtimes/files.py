"""Run exported files: NumPy in, NumPy out."""

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from .description import (
    KEY,
    SUFFIXES,
    Description,
    ExportError,
    require_packages,
)


class Runtime(ABC):
    """An exported file, ready to run.

    Args:
        path (Path): The file.

    Attributes:
        description (Description): What the file says of itself.
    """

    description: Description

    @abstractmethod
    def __init__(self, path: Path) -> None: ...

    @abstractmethod
    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Compute the outputs of (B, 3, H, W) uint8 images, RGB."""


class OnnxRuntime(Runtime):
    """A file of ONNX, in ONNX Runtime."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=onnxruntime.get_available_providers()
        )
        found = self._session.get_modelmeta().custom_metadata_map
        self.description = _parse(found.get(KEY), path)

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Compute the outputs of (B, 3, H, W) uint8 images, RGB."""
        return self._session.run(None, {'images': images})


class OpenVino(Runtime):
    """A model of OpenVINO, on the CPU."""

    def __init__(self, path: Path) -> None:
        import openvino

        model = openvino.Core().read_model(str(path))
        text = None
        if model.has_rt_info([KEY]):
            text = model.get_rt_info([KEY]).astype(str)
        self.description = _parse(text, path)
        # Otherwise it chooses bfloat16 where a CPU has it.
        half = self.description.precision == 'fp16'
        settings = {} if half else {'INFERENCE_PRECISION_HINT': 'f32'}
        self._model = openvino.Core().compile_model(model, 'CPU', settings)

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Compute the outputs of (B, 3, H, W) uint8 images, RGB."""
        results = self._model(images)
        return [results[i] for i in range(len(self.description.outputs))]


class ExportedProgram(Runtime):
    """A program of torch.export, in PyTorch."""

    def __init__(self, path: Path) -> None:
        import torch
        import torchvision  # noqa: F401 (its operators)

        extra = {f'{KEY}.json': ''}
        program = torch.export.load(str(path), extra_files=extra)
        self.description = _parse(extra[f'{KEY}.json'], path)
        self._module = program.module()

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Compute the outputs of (B, 3, H, W) uint8 images, RGB."""
        import torch

        with torch.no_grad():
            outputs = self._module(torch.from_numpy(images))
        return [output.numpy() for output in outputs]


RUNTIMES: dict[str, type[Runtime]] = {
    'onnx': OnnxRuntime,
    'openvino': OpenVino,
    'torch-export': ExportedProgram,
}


def find_format(path: Path) -> str:
    """Return the format of a file by its suffix, or ''."""
    return {v: k for k, v in SUFFIXES.items()}.get(path.suffix, '')


def open_runtime(path: Path) -> Runtime:
    """Open an exported file.

    Args:
        path (Path): The file; its suffix tells the format.

    Raises:
        ExportError: It is not there or no file of ``mmsmt export``, or a
            package is missing.
    """
    kind = find_format(path)
    if kind and not path.is_file():
        raise ExportError(f"There is no file '{path}'.")
    if not kind:
        raise ExportError(
            f"'{path}' is no exported file: {', '.join(SUFFIXES.values())}"
        )
    require_packages(kind)
    try:
        return RUNTIMES[kind](path)
    except ExportError:
        raise
    except Exception as error:  # each runtime has its own
        reason = str(error).strip().splitlines()[0][:300]
        raise ExportError(f"'{path}' cannot be read: {reason}") from error


def _parse(text: str | None, path: Path) -> Description:
    if not text:
        raise ExportError(
            f"'{path}' was not written by `mmsmt export`: it does not say "
            'what it predicts.'
        )
    return Description.parse(text)
