"""A small SMT that is built and run in a moment."""

import torch

from mmsmt import SMT

ARCH = dict(
    embed_dims=(32, 64, 128, 256),
    depths=(1, 1, 2, 1),
    mlp_ratios=(2, 2, 2, 2),
    stem_kernel_size=3,
)


def make(**kwargs) -> SMT:
    """Build one whose batch norms have statistics of their own."""
    torch.manual_seed(0)
    model = SMT(ARCH, **kwargs)
    model.init_weights()
    for name, buffer in model.named_buffers():
        if 'running' in name:
            buffer.uniform_(0.5, 1.5)
    return model.eval()
