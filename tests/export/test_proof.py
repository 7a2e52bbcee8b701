"""Exported files are compared with their models."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData

from mmsmt.export.proof import Judge, Proof, compare_objects
from mmsmt.runtimes.description import ExportError
from mmsmt.runtimes.files import open_runtime
from mmsmt.runtimes.model import use_exported


def objects(*scores: float) -> DetDataSample:
    boxes = torch.arange(len(scores))[:, None] + torch.zeros(1, 4)
    found = InstanceData(
        bboxes=boxes,
        scores=torch.tensor(scores),
        labels=torch.zeros(len(scores), dtype=torch.int64),
    )
    return DetDataSample(
        metainfo=dict(ori_shape=(100, 100)), pred_instances=found
    )


def test_lost_objects_count():
    """Not those that rounding drops at the threshold, or at the limit."""
    five = objects(0.99, 0.9, 0.8, 0.7, 0.6)
    lost = compare_objects(five, objects(0.99), 0.05)
    assert lost == [0, 1, 1, 1, 1]
    assert compare_objects(objects(0.99), five, 0.05) == [0, 1, 1, 1, 1]
    assert compare_objects(objects(0.9, 0.0501), objects(0.9), 0.05) == [0]
    # Each has the most that it may have.
    others = objects(0.99, 0.9, 0.8, 0.7, 0.6005)
    others.pred_instances.bboxes[-1] += 50
    assert compare_objects(five, others, 0.05) == [0, 0, 0, 0]


def test_other_metrics_are_compared():
    """Compare all metrics without a usual one; hosts give percents."""
    runner = SimpleNamespace(
        cfg=Config(dict(test_evaluator=[], default_scope='mmseg')),
        build_evaluator=lambda _: Evaluator([]),
        logger=logging.getLogger('test'),
    )
    judge = Judge(runner, {})
    for evaluator, value in zip(judge._evaluators, (80.0, 60.0)):
        scores = dict(mDice=value, table='text')
        evaluator.evaluate = lambda size, scores=scores: scores
    assert judge.evaluate() == {'mDice': (0.8, 0.6)}


def test_files_that_are_not_there(tmp_path):
    path = tmp_path / 'typo.onnx'
    with pytest.raises(ExportError, match=f"There is no file '{path}'"):
        open_runtime(path)
    with pytest.raises(ExportError, match='is not fetched'):
        use_exported(Config(), 'https://a.b/model.onnx')


def test_changes_of_metrics():
    nan = float('nan')
    pairs = {'a': (0.5, 0.4), 'b': (nan, nan), 'c': (-1, -1)}
    assert Proof(metrics=pairs).change == pytest.approx(0.1)
    assert Proof(metrics={'a': (0.5, nan)}).change == float('inf')
