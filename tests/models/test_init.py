"""Initial values, released weights, copies and depths of parameters."""

import copy
import math
import pickle

import pytest
import torch
from mmengine.model import Sequential
from support import golden
from support.small import make
from torch import nn

from mmsmt import SMT


def test_initial_values():
    torch.manual_seed(0)
    model = SMT('tiny', layer_scale_init_value=1e-4)
    model.init_weights()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
            assert not module.bias.any()
        elif isinstance(module, nn.Conv2d) and module.weight.numel() > 2000:
            kernel = math.prod(module.kernel_size)
            fan_out = kernel * module.out_channels // module.groups
            assert module.weight.std().item() == pytest.approx(
                math.sqrt(2 / fan_out), rel=0.1
            )
    assert (model.block1[0].gamma_1 == 1e-4).all()


def test_copies_and_pickles():
    small_smt = make()
    image = torch.randn(1, 3, 32, 32)
    weights = {
        k: v + 1 if v.is_floating_point() else v
        for k, v in small_smt.state_dict().items()
    }
    for other in (
        copy.deepcopy(small_smt),
        pickle.loads(pickle.dumps(small_smt)),
    ):
        with torch.no_grad():
            assert torch.equal(other(image)[3], small_smt(image)[3])
        other.load_state_dict(weights)
        assert torch.equal(other.norm1.bias, small_smt.norm1.bias + 1)


def test_from_released(tmp_path, monkeypatch):
    """The file that the download cache has, LayerScale where it has one."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    folder = tmp_path / 'hub' / 'checkpoints'
    folder.mkdir(parents=True)
    weights = golden.weights('tiny')
    torch.save(dict(model=weights), folder / 'smt_tiny.pth')
    model = SMT.from_released('tiny', out_indices=(3,), drop_path_rate=0.1)
    assert torch.equal(model.norm4.weight, weights['norm4.weight'])
    assert model.block4[0].drop_path.drop_prob == pytest.approx(0.1)
    # A model around it initializes its other parts.
    around = Sequential(model, nn.Linear(8, 2))
    around.init_weights()
    assert torch.equal(model.norm4.weight, weights['norm4.weight'])
    weights = golden.weights('large-22k')
    torch.save(dict(model=weights), folder / 'smt_large_22k_224_ft.pth')
    model = SMT.from_released('large-22k-ft-224')
    gamma = weights['block1.0.gamma_1']
    assert torch.equal(model.block1[0].gamma_1, gamma)
    with pytest.raises(ValueError, match="weights 'small-paper'.*tiny, small"):
        SMT.from_released('small-paper')


def test_layer_depths():
    """Give 0 to the stem, n to block n, the last depth to a head."""
    model = SMT('tiny')  # 2, 2, 8 and 1 blocks
    for name, depth in {
        'patch_embed1.conv1.weight': 0,
        'block1.0.attn.v.weight': 1,
        'block1.1.mlp.fc1.bias': 2,
        'norm1.weight': 2,
        'patch_embed2.proj.weight': 3,
        'block3.7.attn.q.weight': 12,
        'patch_embed4.norm.bias': 13,
        'norm4.bias': 13,
        'head.fc.weight': 14,
    }.items():
        assert model.get_layer_depth(name) == (depth, 15), name
    assert model.get_layer_depth('backbone.norm2.bias', 'backbone.') == (4, 15)
    assert model.get_layer_depth('neck.convs.0', 'backbone.') == (14, 15)
    assert SMT('tiny', out_indices=(1,)).get_layer_depth('norm2.bias') == (
        4,
        6,
    )
