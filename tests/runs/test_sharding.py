"""A model sharded over processes (FSDP) is the model of one process."""

import os
import re
import subprocess

import pytest
import torch
from support import toy
from support.small import ARCH
from support.toy import assert_equal, free_port, weights

from mmsmt.runs.checkpoints import find_newest

pytestmark = [
    pytest.mark.one_stack,
    pytest.mark.skipif(
        torch.__version__ < '2.2', reason='this torch shards on GPUs only'
    ),
]


@pytest.mark.slow
def test_weights_are_those_of_one_process(fork, root):
    """Three steps with clipped gradients; each block of SMT is a unit."""
    output = subprocess.check_output(
        [fork, '-m', 'torch.distributed.run', '--nproc-per-node=2']
        + [f'--master-port={free_port()}', '-m', 'support.sharded'],
        env={**os.environ, 'PYTHONPATH': f'{root}:{root / "tests"}'},
        stderr=subprocess.DEVNULL,
        text=True,
    )
    found = re.findall(r'process \d: (\d+) units, (\S+)', output)
    assert len(found) == 2, output
    for units, difference in found:
        assert int(units) == sum(ARCH['depths']) + 1
        assert float(difference) <= 1e-6


@pytest.mark.slow
def test_train_stop_and_resume(train_two, tmp_path):
    """The runs of FSDP and DDP are one; a resumed one equals the unbroken."""
    settings = {
        'model.type': 'ToySMT',
        'optim_wrapper.clip_grad': dict(max_norm=0.01),
        # AdamW would enlarge rounding where gradients vanish.
        'optim_wrapper.optimizer': dict(type='SGD', lr=0.1, momentum=0.9),
    }
    plain = toy.write_config(tmp_path / 'plain.py', **settings)
    status, log = train_two(plain, tmp_path / 'plain')
    assert status == 0, log

    settings['runner_type'] = 'FlexibleRunner'
    settings['strategy'] = dict(type='ToySharding')
    config = toy.write_config(tmp_path / 'run.py', **settings)
    status, text = train_two(config, tmp_path / 'whole')
    assert status == 0, text
    count = r'parameters .* M, .* M trained'
    assert re.search(count, text)[0] == re.search(count, log)[0]
    name = 'epoch_3.pth'
    whole = weights(tmp_path / 'whole', name)
    for key, value in weights(tmp_path / 'plain', name).items():
        assert (whole[key] - value).abs().max() <= 1e-6, key

    accident = dict(type='ToyAccident', after=4, signal=15, rank=1)
    broken = toy.write_config(
        tmp_path / 'broken.py', custom_hooks=[accident], **settings
    )
    status, text = train_two(broken, tmp_path / 'broken')
    assert status != 0 and text.count('Stopped by SIGTERM after') == 1, text
    newest, _ = find_newest(tmp_path / 'broken')
    assert newest.iteration == 4
    status, text = train_two(config, tmp_path / 'broken', '--resume')
    assert status == 0, text
    assert_equal(whole, weights(tmp_path / 'broken', name))
