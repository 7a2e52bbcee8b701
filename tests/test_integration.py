"""Read files by mmengine once mmsmt is imported."""

import pickle

import pytest
import torch
from mmengine.logging import HistoryBuffer
from support.evil import Evil

from mmsmt.integration import load_anyhow
from mmsmt.weights import CheckpointError

pytestmark = pytest.mark.one_stack


def load_tensors_only(filename, map_location=None):
    """Load as upstream's mmengine does with torch 2.6."""
    return torch.load(filename, map_location=map_location, weights_only=True)


def test_files_with_more_than_tensors(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    content = dict(
        message_hub=dict(loss=HistoryBuffer([1], [1])), w=torch.ones(2)
    )
    torch.save(content, path)
    with pytest.raises(pickle.UnpicklingError):
        load_tensors_only(path)
    loaded = load_anyhow(load_tensors_only, str(path))
    assert isinstance(loaded['message_hub']['loss'], HistoryBuffer)
    assert loaded['w'].tolist() == [1, 1]


def test_code_is_not_run(tmp_path):
    trace = tmp_path / 'trace'
    torch.save(dict(meta=Evil(trace.mkdir)), tmp_path / 'evil.pth')
    with pytest.raises(CheckpointError, match='is refused'):
        load_anyhow(load_tensors_only, str(tmp_path / 'evil.pth'))
    assert not trace.exists()
