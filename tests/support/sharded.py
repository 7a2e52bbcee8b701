"""Train the small SMT in one process, and sharded over those of torchrun."""

import sys

import torch
from torch.distributed import get_rank, init_process_group
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.utils import clip_grad_norm_

from mmsmt.runs.sharding import wrap_smt_blocks
from mmsmt.weights.host_models import whole_state_dict

from .small import make


def main() -> None:
    """Print the number of units and the largest difference."""
    init_process_group('gloo')
    one, model = make().train(), make().train()
    sharded = FullyShardedDataParallel(
        model,
        auto_wrap_policy=wrap_smt_blocks,
        device_id=torch.device('cpu'),
        use_orig_params=True,
    )
    images = torch.randn(2, 3, 64, 64)
    for module in (one, sharded):
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            sum(x.square().mean() for x in module(images)).backward()
            if module is one:
                clip_grad_norm_(module.parameters(), 0.1)
            else:
                module.clip_grad_norm_(0.1)
            optimizer.step()
    state = whole_state_dict(sharded)
    expected = whole_state_dict(one)
    assert state.keys() == expected.keys()
    difference = max(
        float((state[name] - value).abs().max())
        for name, value in expected.items()
    )
    units = FullyShardedDataParallel.fsdp_modules(sharded)
    # In one piece: the other process writes to the same pipe.
    sys.stdout.write(
        f'process {get_rank()}: {len(units)} units, {difference:.1e}\n'
    )


if __name__ == '__main__':
    main()
