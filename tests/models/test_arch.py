"""Archs of one's own, and those of the paper's ablations."""

import pytest
import torch
from support.small import ARCH as SMALL_ARCH

from mmsmt import SMT, execution


@pytest.mark.parametrize(
    'arch, error, words',
    [
        ('smal', ValueError, 'tiny, small, small-paper, base, large'),
        (7, TypeError, 'str or a dict'),
        ({}, ValueError, 'missing.*embed_dims'),
        ({**SMALL_ARCH, 'heads': 4}, ValueError, "unknown: \\['heads'\\]"),
        ({**SMALL_ARCH, 'depths': (1, 1, 1)}, ValueError, '4 positive'),
        ({**SMALL_ARCH, 'depths': (1, 1, 1, 0)}, ValueError, '4 positive'),
        ({**SMALL_ARCH, 'depths': (1, 1, 1.5, 1)}, TypeError, 'an int'),
        ({**SMALL_ARCH, 'depths': '1111'}, ValueError, '4 positive'),
        (
            {**SMALL_ARCH, 'embed_dims': (33, 64, 128, 256)},
            ValueError,
            'divide by',
        ),
        (
            {**SMALL_ARCH, 'embed_dims': (32, 64, 128, 200)},
            ValueError,
            'divide by',
        ),
        ({**SMALL_ARCH, 'stem_kernel_size': 4}, ValueError, 'odd'),
        ({**SMALL_ARCH, 'sam_heads': 0}, ValueError, '>= 1'),
        ({**SMALL_ARCH, 'stacking': 'both'}, ValueError, 'alternate, halves'),
        ({'base': 'tiny', 'aggregation': 'mean'}, ValueError, 'saa, none'),
        ({'base': 'mini'}, ValueError, 'tiny, small'),
        ({'base': 'tiny', 'heads': 1}, ValueError, "unknown: \\['heads'\\]"),
    ],
)
def test_wrong_arch(arch, error, words):
    with pytest.raises(error, match=words):
        SMT(arch)


@pytest.mark.parametrize(
    'changes, parameters',
    [
        (dict(sam_heads=1), 11.5),  # Table 7
        (dict(sam_heads=8), 11.6),
        (dict(aggregation='none'), 10.9),  # Table 8
        (dict(stacking='sam'), 11.8),  # Table 9
        (dict(stacking='msa'), 11.2),
        (dict(stacking='halves'), 11.5),
    ],
)
def test_ablations_of_the_paper(changes, parameters):
    """Sizes in millions, with the classifier of 1,000."""
    with torch.device('meta'):
        model = SMT(dict(base='tiny', **changes))
    total = sum(p.numel() for p in model.parameters()) + 513 * 1000
    assert round(total / 1e6, 1) == parameters


@pytest.mark.parametrize(
    'changes, kinds',
    [
        (dict(stacking='halves'), ['SAM', 'SAM', 'MSA', 'MSA']),
        (dict(stacking='sam', aggregation='none'), ['SAM'] * 4),
        (dict(stacking='msa', aggregation='none'), ['MSA'] * 4),
    ],
)
def test_ablations_compute(changes, kinds):
    """Training, and bands of rows as in one piece."""
    model = SMT(dict(SMALL_ARCH, depths=(1, 1, 4, 1), **changes))
    names = [type(block.attn).__name__ for block in model.block3]
    assert ['SAM' if 'Modul' in name else 'MSA' for name in names] == kinds
    images = torch.randn(2, 3, 64, 64)
    sum(o.mean() for o in model(images)).backward()
    assert all(p.grad is not None for p in model.parameters())
    model.eval()
    with torch.no_grad(), execution.disabled():
        expected = model(images)
    with torch.no_grad():
        found = model(images)
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
