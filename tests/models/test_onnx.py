"""ONNX models compute what the model computes, in onnxruntime."""

import contextlib
import io
import logging

import numpy as np
import onnxruntime
import pytest
import torch
from support.small import ARCH

from mmsmt import SMT

TORCH = tuple(int(v) for v in torch.__version__.split('.')[:2])
HAS_DYNAMO = TORCH >= (2, 6)
OPSETS = range(11, 21 if HAS_DYNAMO else 18)
NAMES = ('batch', None, 'height', 'width')


@pytest.fixture(scope='module')
def model() -> SMT:
    torch.manual_seed(0)
    model = SMT(ARCH).eval()
    model.init_weights()
    return model


def images(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator)


def check(model: SMT, path, shapes) -> None:
    session = onnxruntime.InferenceSession(
        path, providers=['CPUExecutionProvider']
    )
    for shape in shapes:
        x = images(*shape)
        with torch.no_grad():
            references = model(x)
        outs = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        for out, reference in zip(outs, references, strict=True):
            error = np.abs(out - reference.numpy()).max()
            assert error <= 1e-5 * reference.abs().max()


def export(model: SMT, x: torch.Tensor, path, **options) -> None:
    logging.disable(logging.WARNING)
    with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(model, (x,), path, **options)
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize('opset', OPSETS)
def test_traced(model, tmp_path, opset):
    """By the old exporter, for any size (a fixed one is one of them)."""
    path = str(tmp_path / 'smt.onnx')
    axes = {i: name for i, name in enumerate(NAMES) if name}
    options = dict(dynamo=False) if HAS_DYNAMO else {}
    export(
        *(model, images(1, 3, 64, 96), path),
        opset_version=opset,
        input_names=['images'],
        dynamic_axes=dict(images=axes),
        **options,
    )
    check(model, path, [(1, 3, 64, 96), (2, 3, 96, 64)])


@pytest.mark.skipif(not HAS_DYNAMO, reason='this torch has the old one only')
def test_by_dynamo(model, tmp_path):
    """For one size, in the opset whose Split has no number of outputs."""
    path = str(tmp_path / 'smt.onnx')
    x = images(1, 3, 64, 96)
    export(model, x, path, opset_version=17, dynamo=True)
    check(model, path, [x.shape])


@pytest.mark.slow
@pytest.mark.skipif(not HAS_DYNAMO, reason='this torch has the old one only')
def test_by_dynamo_for_any_size(model, tmp_path):
    path = str(tmp_path / 'smt.onnx')
    dims = {
        i: torch.export.Dim.DYNAMIC for i, name in enumerate(NAMES) if name
    }
    export(
        *(model, images(2, 3, 64, 96), path),
        dynamic_shapes=(dims,),
        opset_version=20,
        dynamo=True,
    )
    check(model, path, [(1, 3, 64, 96), (2, 3, 96, 64)])
