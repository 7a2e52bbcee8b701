"""Several processes on this machine, with gloo."""

import hashlib
import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from support.runs import CONFIG, SHORT
from support.small import ARCH

from mmsmt import SMT


def free_port() -> int:
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def gradients(model, images) -> dict:
    loss = sum(out.square().mean() for out in model(images))
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters()}


def build():
    torch.manual_seed(0)
    model = SMT(ARCH, norm_eval=True)
    model.init_weights()
    images = torch.randn(4, 3, 64, 64)
    return model.train(), images


def worker(rank: int, port: str, folder: str) -> None:
    """One of two processes: save the gradients of its half of the batch."""
    from mmengine.model import MMDistributedDataParallel

    class Wrapped(MMDistributedDataParallel):
        def forward(self, x):
            return torch.nn.parallel.DistributedDataParallel.forward(self, x)

    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo',
        init_method=f'tcp://127.0.0.1:{port}',
        rank=rank,
        world_size=2,
    )
    model, images = build()
    model = Wrapped(model, find_unused_parameters=False)
    mine = images[2 * rank : 2 * rank + 2]
    grads = gradients(model, mine)
    grads = {n.removeprefix('module.'): g for n, g in grads.items()}
    gradients(model, mine)  # a second step: no parameter was left waiting
    torch.save(grads, f'{folder}/{rank}.pth')
    torch.distributed.destroy_process_group()


def test_averaged_gradient_is_the_single_process_one(fork, root, tmp_path):
    port = str(free_port())
    command = [fork, __file__]
    workers = [
        subprocess.Popen(
            [*command, str(rank), port, tmp_path],
            env={**os.environ, 'PYTHONPATH': str(root / 'tests')},
        )
        for rank in range(2)
    ]
    assert [worker.wait() for worker in workers] == [0, 0]
    expected = gradients(*build())
    largest = max(grad.abs().max() for grad in expected.values())
    for rank in range(2):
        grads = torch.load(tmp_path / f'{rank}.pth')
        assert grads.keys() == expected.keys()
        for name, grad in grads.items():
            error = (grad - expected[name]).abs().max()
            assert error <= 1e-5 * largest, name


HOOK = """
import hashlib, json
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class WriteDigest(Hook):
    def after_train(self, runner):
        digest = hashlib.sha256()
        for param in runner.model.module.parameters():
            digest.update(param.detach().numpy().tobytes())
        with open(f'{runner.work_dir}/rank{get_rank()}.json', 'w') as file:
            json.dump(dict(
                digest=digest.hexdigest(), iters=runner.iter,
                unused=runner.model.find_unused_parameters), file)
"""


@pytest.mark.slow
def test_dist_train_and_test(fork, root, coco, tmp_path):  # noqa: F811
    """dist_train.sh and dist_test.sh with two processes and no GPU."""
    (tmp_path / 'write_digest.py').write_text(HOOK)
    environ = dict(
        os.environ,
        PYTHON=fork,
        PYTHONPATH=str(tmp_path),
        PORT=str(free_port()),
        OMP_NUM_THREADS='1',
        CUDA_VISIBLE_DEVICES='',
    )

    def bash(*command, status=0):
        result = subprocess.run(
            ['bash', *map(str, command)],
            cwd=root,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert result.returncode == status, result.stdout[-5000:]
        return result.stdout

    work_dir = tmp_path / 'run'
    output = bash(
        *('tools/dist_train.sh', CONFIG, 2, '--data-root', coco),
        *('--work-dir', work_dir, *SHORT),
        'train_dataloader.batch_size=1',
        'train_cfg.max_epochs=1',
        'custom_hooks.0.type=write_digest.WriteDigest',
        'model.backbone.norm_cfg.type=SyncBN',
    )
    assert 'batch      2 = 2 processes x 1' in output
    assert 'SyncBN is replaced by BN' in output
    assert 'coco/bbox_mAP' in output
    ranks = [
        json.loads((work_dir / f'rank{r}.json').read_text()) for r in (0, 1)
    ]
    assert ranks[0] == ranks[1]
    assert (ranks[0]['iters'], ranks[0]['unused']) == (2, False)
    output = bash(  # one message, from the process that checks
        *('tools/dist_train.sh', CONFIG, 2, '--data-root', coco),
        *('--work-dir', tmp_path / 'bad', *SHORT),
        'model.roi_head.bbox_head.num_classes=5',
        status=1,
    )
    assert output.count('num_classes is 5, and the data has 80') == 1
    assert len(ranks[0]['digest']) == hashlib.sha256().digest_size * 2
    output = bash(
        *('tools/dist_test.sh', CONFIG, work_dir / 'epoch_1.pth', 2),
        *('--data-root', coco, '--work-dir', tmp_path / 'test', *SHORT),
    )
    assert 'coco/bbox_mAP' in output


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['dist_train.sh', CONFIG], 'Usage: bash'),
        (['dist_train.sh', CONFIG, 'two'], "positive number, got 'two'"),
        (['dist_test.sh', CONFIG, 'x.pth'], 'Usage: bash'),
        (['slurm_train.sh', 'part', 'job', CONFIG], 'Usage: bash'),
    ],
)
def test_wrong_usage(root, arguments, words):
    result = subprocess.run(
        ['bash', root / 'tools' / arguments[0], *arguments[1:]],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert result.returncode == 2
    assert words in result.stderr


def test_slurm_command(root, tmp_path):
    """Check the arguments that slurm_train.sh gives to srun, replaced here."""
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    environ = dict(
        os.environ,
        PATH=f'{tmp_path}:{os.environ["PATH"]}',
        GPUS='4',
        SRUN_ARGS='--qos=high',
        PYTHON='python3',
    )
    command = ['part', 'job', CONFIG, 'work_dirs/x', '--amp']
    lines = subprocess.run(
        ['bash', root / 'tools/slurm_train.sh', *command],
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.splitlines()
    for argument in ('--gres=gpu:4', '--ntasks=4', '--qos=high', '--amp'):
        assert argument in lines
    assert lines[-5:] == [
        '--work-dir',
        'work_dirs/x',
        '--launcher',
        'slurm',
        '--amp',
    ]


def test_slurm_without_gpus(monkeypatch):
    """slurm's numbers become torch's, and gloo is used."""
    from mmengine.config import Config

    from mmsmt import launch
    from mmsmt.launch import ranks

    started = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(
        torch.distributed,
        'init_process_group',
        lambda name, timeout: started.append(name),
    )
    monkeypatch.setattr(
        subprocess, 'check_output', lambda *args, **kwargs: 'node7\nnode8\n'
    )
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('SLURM_PROCID', '3')
    monkeypatch.setenv('SLURM_NTASKS', '4')
    monkeypatch.setenv('SLURM_LOCALID', '1')
    monkeypatch.setenv('MASTER_PORT', '29511')
    cfg = Config(dict(model=dict(norm=dict(type='SyncBN')), launcher='slurm'))
    monkeypatch.setitem(ranks._LAUNCHED, 'launcher', 'none')
    assert launch.launched_rank() == 0  # of a command that it did not start
    monkeypatch.setitem(ranks._LAUNCHED, 'launcher', 'slurm')
    assert launch.launched_rank() == 3
    launch.use_gloo_without_gpus(cfg)
    assert started == ['gloo']
    names = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR')
    values = [os.environ.pop(name) for name in names]
    assert values == ['3', '4', '1', 'node7']
    assert cfg.model.norm.type == 'BN'
    assert cfg.model_wrapper_cfg.device_ids is None


if __name__ == '__main__':
    worker(int(sys.argv[1]), *sys.argv[2:])
