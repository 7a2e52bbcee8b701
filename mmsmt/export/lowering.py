"""Lower precision of ONNX models, by ONNX Runtime's tools."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

EXACT = ('NonMaxSuppression', 'RoiAlign', 'TopK', 'GridSample', 'Range')
"""Operators that stay in fp32 beside ONNX Runtime's own choice: they compute
places in pixels."""
QUANTIZED = ('Conv', 'MatMul', 'Gemm')


def halve(model: Any) -> Any:
    """Return an ONNX model with weights and arithmetic in fp16.

    Args:
        model (onnx.ModelProto): The model; inputs and outputs stay.
    """
    from onnxruntime.transformers.float16 import (
        DEFAULT_OP_BLOCK_LIST,
        convert_float_to_float16,
    )

    return convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *EXACT],
    )


def quantize(path: Path, images: Iterable[np.ndarray]) -> Any:
    """Return an ONNX model with products and convolutions in int8.

    Ranges of the maps are those of the images (static quantization), weights
    have a scale for each output channel.

    Args:
        path (Path): File of the model.
        images (Iterable[np.ndarray]): Inputs to calibrate on.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._images = iter(images)

        def get_next(self) -> dict | None:
            found = next(self._images, None)
            return None if found is None else {'images': found}

    with tempfile.TemporaryDirectory() as folder:
        ready, result = Path(folder, 'ready.onnx'), Path(folder, 'int8.onnx')
        quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready),
            str(result),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
        )
        return onnx.load(str(result))
