"""Layer-wise learning-rate decay trains SMT in every host."""

import pytest
from mmengine.optim import build_optim_wrapper
from support.configs import build, load

CONSTRUCTOR = 'mmsmt.LayerDecayOptimWrapperConstructor'


@pytest.mark.parametrize(
    'name', ['retinanet_smt_s_3x', 'upernet_smt_s_160k', 'smt_s_in1k']
)
def test_rates_grow_with_depth(name):
    cfg = load(name)
    model = build(cfg, 'meta')
    wrapper = build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper',
            constructor=CONSTRUCTOR,
            optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.05),
            paramwise_cfg=dict(layer_decay_rate=0.5),
        ),
    )
    groups = wrapper.optimizer.param_groups
    rates = {g['param_name']: g['lr'] for g in groups}
    assert rates.keys() == {name for name, _ in model.named_parameters()}
    blocks = 3 + 4 + 18 + 2  # of SMT-S; the head is one deeper
    assert rates['backbone.patch_embed1.conv1.weight'] == 0.5 ** (blocks + 1)
    assert rates['backbone.block1.0.attn.v.weight'] == 0.5**blocks
    assert rates['backbone.block4.1.mlp.fc2.weight'] == 0.5
    others = {r for n, r in rates.items() if not n.startswith('backbone.')}
    assert others == {1.0}
