"""The memory layout of a GPU gives the same function."""

import pytest
import torch
from support.compare import close, loss_of
from support.small import make

from mmsmt.layers import linear, maps


@pytest.mark.parametrize('hooked', [False, True])
def test_layout_of_a_gpu(monkeypatch, hooked):
    """Outputs and gradients are those of the CPU's layout."""

    def compute():
        model.zero_grad()
        image = torch.randn(
            2, 3, 64, 96, generator=torch.Generator().manual_seed(0)
        ).requires_grad_()
        outs = model(image)
        loss_of(outs).backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters()])
        return [*outs, image.grad, gradients]

    model = make().train()
    shapes = []
    if hooked:
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d) and module.groups > 1:
                module.register_forward_hook(
                    lambda _, x, y: shapes.append((x[0].shape, y.shape))
                )
    expected = compute()
    before = shapes.copy()
    for module in (linear, maps):
        monkeypatch.setattr(module, 'on_gpu', lambda x: True)
    del shapes[:]
    assert close(compute(), expected)
    assert shapes == before and bool(shapes) == hooked
