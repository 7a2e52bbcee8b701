"""Rows of the benchmark that other runtimes compute on a CPU."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmsmt.runtimes.description import missing_packages

RUNTIMES = dict(onnxruntime=('fp32',), openvino=('fp32', 'bf16'))
"""Runtimes by their package, and the precisions that they compute in."""


def installed_runtimes() -> list[str]:
    """Return the runtimes that this environment has."""
    kinds = dict(onnxruntime='onnx', openvino='openvino')
    return [row for row in RUNTIMES if not missing_packages(kinds[row])]


class Exported(nn.Module):
    """A backbone in another runtime, for images of one size.

    Args:
        row (str): One of :data:`RUNTIMES`.
        model (nn.Module): The backbone.
        shape (tuple[int, ...]): That of the images, (B, 3, H, W).
        dtype (str): Of those that the runtime computes in.
    """

    def __init__(
        self, row: str, model: nn.Module, shape: tuple[int, ...], dtype: str
    ) -> None:
        from mmsmt.export.formats import trace_onnx

        super().__init__()
        threads = torch.get_num_threads()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, 'backbone.onnx')
            trace_onnx(model.eval(), torch.rand(shape), path)
            if row == 'onnxruntime':
                self._compute = _open_onnxruntime(path, threads)
            else:
                precision = 'f32' if dtype == 'fp32' else dtype
                self._compute = _open_openvino(path, threads, precision)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps (B, C, H', W') of images (B, 3, H, W)."""
        return tuple(map(torch.from_numpy, self._compute(x.numpy())))


Compute = Callable[[np.ndarray], list[np.ndarray]]


def _open_onnxruntime(path: Path, threads: int) -> Compute:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = threads
    session: Any = onnxruntime.InferenceSession(
        str(path), options, providers=['CPUExecutionProvider']
    )
    return lambda images: session.run(None, dict(images=images))


def _open_openvino(path: Path, threads: int, precision: str) -> Compute:
    import openvino

    settings = {
        'PERFORMANCE_HINT': 'LATENCY',
        'INFERENCE_NUM_THREADS': threads,
        'INFERENCE_PRECISION_HINT': precision,
    }
    model = openvino.Core().compile_model(str(path), 'CPU', settings)

    def compute(images: np.ndarray) -> list[np.ndarray]:
        results = model(images)
        return [results[i].copy() for i in range(len(model.outputs))]

    return compute
