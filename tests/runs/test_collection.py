"""The garbage collector does not look through datasets."""

import gc

import pytest
from support import toy

from mmsmt.runs.collection import paused

pytestmark = pytest.mark.one_stack


def test_paused_while_datasets_are_read(tool_of, tmp_path, monkeypatch):
    """It is off while they are read, on in the training and after it."""
    seen = {}

    def load(self):
        seen['reading'] = gc.isenabled()
        return whole(self)

    def forward(self, *args, **kwargs):
        seen['training'] = gc.isenabled(), gc.get_freeze_count() > 0
        return compute(self, *args, **kwargs)

    whole, compute = toy.ToyData.load_data_list, toy.ToyModel.forward
    monkeypatch.setattr(toy.ToyData, 'load_data_list', load)
    monkeypatch.setattr(toy.ToyModel, 'forward', forward)
    config = toy.write_config(
        tmp_path / 'run.py', **{'train_cfg.max_epochs': 1}
    )
    status, text = tool_of('train', config, '--work-dir', tmp_path / 'run')
    assert status == 0, text
    assert seen == {'reading': False, 'training': (True, True)}
    assert gc.isenabled()


def test_an_error_ends_the_pause():
    gc.unfreeze()
    with pytest.raises(KeyError), paused():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled() and gc.get_freeze_count() == 0
    gc.disable()
    try:
        with paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
