"""Settings that nothing reads are told before a run."""

import pytest
from mmengine.config import Config
from support.configs import CONFIGS

from mmsmt.data.findings import Findings
from mmsmt.data.variables import check_variables

pytestmark = pytest.mark.one_stack
BASE = CONFIGS / 'demo' / 'mask_rcnn_smt_t_digits.py'
PATHS = [*CONFIGS.glob('*.py'), *CONFIGS.glob('demo/*.py')]


def find(path) -> list:
    findings = Findings()
    check_variables(Config.fromfile(path), findings)
    return list(findings)


@pytest.mark.parametrize('path', PATHS, ids=lambda x: x.stem)
def test_our_configs_are_fine(path):
    assert not find(path)


FAULTS = {
    'misspelt': (
        "optim_wraper = dict(type='A')",
        'Did you mean optim_wrapper',
    ),
    'of mmdet 2': ('evaluation = dict(interval=2)', 'It is val_evaluator'),
    'annotated': ('width: int = 32\nmax_epochs: int = 5', 'is still 2'),
    'epochs': ('max_epochs = 5', 'train_cfg.max_epochs is still 2'),
    'data_root': (
        "data_root = 'data/other/'",
        "train_dataloader.dataset.data_root is still 'data/demo_digits/'",
    ),
    'pipeline': (
        "test_pipeline = [dict(type='LoadImageFromFile')]",
        'test_pipeline has no effect: test_dataloader.dataset.pipeline is as',
    ),
    'classes': ("metainfo = dict(classes=('a',))", 'dataset.metainfo is as'),
}


@pytest.mark.parametrize('name', FAULTS)
def test_faults(tmp_path, name):
    line, words = FAULTS[name]
    path = tmp_path / 'own.py'
    path.write_text(f"_base_ = '{BASE}'\n{line}\n")
    (finding,) = find(path)
    assert words in str(finding) and f'{path}, line ' in finding.where
    assert not finding.error


FINE = [
    'max_epochs = 5\ntrain_cfg = dict(max_epochs=max_epochs)',
    'max_epochs = 2',  # as in the base
    "note = 'mine'",
    'test_pipeline = []\ntest_dataloader = dict(dataset=dict(pipeline=[]))',
]


@pytest.mark.parametrize('lines', FINE)
def test_variables_that_are_fine(tmp_path, lines):
    path = tmp_path / 'own.py'
    path.write_text(f"_base_ = '{BASE}'\n{lines}\n")
    assert not find(path)


def test_written_configs_are_fine(tmp_path):
    """A config as mmengine writes it keeps variables of its bases."""
    path = tmp_path / 'config.py'
    Config.fromfile(CONFIGS / 'upernet_smt_t_160k.py').dump(path)
    assert 'train_pipeline' in path.read_text()
    assert not find(path)
