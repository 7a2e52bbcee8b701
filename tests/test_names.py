"""Shipped models by name, in the hosts' inferencers and hub."""

import pytest
import yaml
from mmengine.infer.infer import BaseInferencer
from mmengine.registry import init_default_scope
from support.configs import CONFIGS
from support.golden import save_as_released, weights

from mmsmt.analysis.metafile import make_metafiles
from mmsmt.weights import RELEASED_WEIGHTS, CheckpointError


@pytest.fixture(scope='module')
def files():
    return {
        path.stem: yaml.safe_load(path.read_text())
        for path in (CONFIGS / 'metafiles').glob('*.yml')
    }


@pytest.mark.one_stack
def test_metafiles_are_those_of_the_configs(files):
    """If not: python -m mmsmt.analysis.metafile"""
    assert files == make_metafiles(CONFIGS)
    models = [x for content in files.values() for x in content['Models']]
    paths = {model['Config'].removeprefix('configs/smt/') for model in models}
    assert paths == {path.name for path in CONFIGS.glob('*.py')}
    weighted = {x['Weights'] for x in models if 'Weights' in x}
    assert weighted == set(RELEASED_WEIGHTS.values())
    (row,) = (x for x in models if x['Name'] == 'mask_rcnn_smt_s_1x')
    assert [x['Metrics'] for x in row['Results']] == [
        {'box AP': 47.8},
        {'mask AP': 43.0},
    ]


def test_mmpretrain(tmp_path, monkeypatch):
    import mmpretrain
    import torch

    names = mmpretrain.list_models('*smt*')
    assert len(names) == 7 and 'smt-tiny_3rdparty_in1k' in names
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    path = tmp_path / 'checkpoints' / 'smt_tiny.pth'
    path.parent.mkdir()
    save_as_released(weights('tiny'), path)
    model = mmpretrain.get_model('smt-tiny_3rdparty_in1k', pretrained=True)
    init_default_scope('mmpretrain')
    inferencer = mmpretrain.ImageClassificationInferencer(model)
    assert len(inferencer.classes) == 1000
    with pytest.raises(CheckpointError, match="released for 'smt_l_in1k'"):
        mmpretrain.get_model('smt_l_in1k', pretrained=True)


@pytest.mark.parametrize(
    ('host', 'name'),
    [('mmdet', 'retinanet_smt_s_3x'), ('mmseg', 'upernet_smt_t_160k')],
)
def test_inferencers(host, name, files):
    listed = BaseInferencer.list_models(host)
    ours = {model['Name'] for model in files[host]['Models']}
    assert ours < set(listed) and 'smt_l_in1k' not in listed
    inferencer = BaseInferencer.__new__(_Inferencer)
    inferencer.scope = host
    cfg, address = inferencer._load_model_from_metafile(name.upper())
    assert cfg.filename.endswith(f'{name}.py')
    with pytest.raises(CheckpointError, match=f"released for '{name}'"):
        inferencer._init_model(cfg, address)


class _Inferencer(BaseInferencer):
    def _init_pipeline(self, cfg): ...

    def visualize(self, *args, **kwargs): ...

    def postprocess(self, *args, **kwargs): ...
