"""Descriptions of exported files."""

import json
from dataclasses import asdict, dataclass
from importlib.util import find_spec

import torch
from mmengine.utils import digit_version

from mmsmt.errors import UserError

SUFFIXES = {'onnx': '.onnx', 'openvino': '.xml', 'torch-export': '.pt2'}
KEY = 'mmsmt'
"""Name under which a file holds its description."""


class ExportError(UserError):
    """Error for a model or a file that cannot be exported or read."""


@dataclass
class Description:
    """Hold what a runtime has to know of an exported file.

    Args:
        task (str): ``classification``, ``segmentation`` or ``detection``.
        classes (tuple[str, ...]): Names of the classes.
        outputs (tuple[str, ...]): Names of the results, in order.
        size (tuple[int, int], optional): Height and width; any if None.
        batch (int, optional): Number of images; any if None.
        mask_threshold (float): Probability from which a pixel is an object's.
        precision (str): ``fp32``, ``fp16`` or ``int8``.
        divisor (int): The model pads sides to its multiples.
    """

    task: str
    classes: tuple[str, ...]
    outputs: tuple[str, ...]
    size: tuple[int, int] | None = None
    batch: int | None = None
    mask_threshold: float = 0.5
    precision: str = 'fp32'
    divisor: int = 1

    def dump(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> 'Description':
        """Read it from JSON."""
        values = json.loads(text)
        for key in ('classes', 'outputs', 'size'):
            values[key] = values[key] and tuple(values[key])
        return cls(**values)


def missing_packages(kind: str) -> list[str]:
    """Return the packages of a format that are not installed."""
    needed = {
        'onnx': ('onnx', 'onnxruntime'),
        'openvino': ('onnx', 'openvino'),
        'torch-export': (),
    }[kind]
    return [name for name in needed if not find_spec(name)]


def require_packages(kind: str) -> None:
    """Check that the packages of a format are installed.

    Raises:
        ExportError: One is missing.
    """
    missing = missing_packages(kind)
    if missing:
        raise ExportError(
            f'{kind} needs {" and ".join(missing)}: pip install '
            f"'mmsmt[{'openvino' if kind == 'openvino' else 'export'}]'"
        )
    version = digit_version(torch.__version__)
    if kind == 'torch-export' and version < digit_version('2.4'):
        raise ExportError(
            f'torch {torch.__version__} cannot export detectors or save what '
            'it exports: torch-export needs torch 2.4 or later.'
        )
