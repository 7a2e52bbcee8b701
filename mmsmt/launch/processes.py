"""Build the runner, in one process or one of several."""

import os
import subprocess
from datetime import timedelta
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import init_dist, is_distributed, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, Runner
from mmengine.utils.dl_utils import set_multi_processing

from mmsmt.data.configured import type_name
from mmsmt.runs.signals import shield_workers

from .config import LaunchError
from .cpu import keep_freed_memory

NEED_GPUS = (
    'DDPStrategy',
    'FSDPStrategy',
    'DeepSpeedStrategy',
    'ColossalAIStrategy',
)
LAUNCHERS = {
    'pytorch': ('RANK', 'bash tools/dist_train.sh CONFIG GPUS'),
    'slurm': ('SLURM_PROCID', 'srun python tools/train.py CONFIG ...'),
    'mpi': ('OMPI_COMM_WORLD_LOCAL_RANK', 'mpirun python tools/train.py ...'),
}
"""A variable that each sets, and how it starts a run."""
TIMEOUT = 3 * 60 * 60
"""Seconds that processes wait for one that evaluates, checks or saves."""


def connect_processes(cfg: Config) -> None:
    """Start the process group of a config, if it has several processes.

    mmengine would start it when the runner is built, and gives up after ten
    minutes if one process still evaluates.

    Args:
        cfg (Config): The config, changed in place.

    Raises:
        LaunchError: The launcher or the strategy is for GPUs only.
    """
    strategy = type_name(cfg.get('strategy') or {}).rpartition('.')[2]
    if strategy in NEED_GPUS and not torch.cuda.is_available():
        raise LaunchError(
            f'strategy={strategy} needs GPUs. Without them, leave strategy '
            'and runner_type out: dist_train.sh trains with DDP over gloo.'
        )
    if strategy in NEED_GPUS and cfg.launcher == 'none':
        raise LaunchError(
            f'strategy={strategy} needs a launcher, for one GPU too: '
            'bash tools/dist_train.sh CONFIG GPUS'
        )
    if cfg.launcher == 'none':
        return
    _require_launcher(cfg.launcher)
    env = cfg.setdefault('env_cfg', {})
    settings = env.setdefault('dist_cfg', dict(backend='nccl'))
    settings.setdefault('timeout', TIMEOUT)
    use_gloo_without_gpus(cfg)
    if not is_distributed():
        set_multi_processing(**env.get('mp_cfg', {}), distributed=True)
        init_dist(cfg.launcher, **settings)


def _require_launcher(launcher: str) -> None:
    """Require what a launcher sets, and a GPU for each process.

    Raises:
        LaunchError: It did not start this process, or there are fewer GPUs.
    """
    name, start = LAUNCHERS[launcher]
    if name not in os.environ:
        raise LaunchError(
            f'--launcher {launcher} is for processes that it starts, with '
            f'{name} set: {start}. For one process, leave it out.'
        )
    processes = int(os.environ.get('LOCAL_WORLD_SIZE', 1))
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus and processes > gpus:
        visible = os.environ.get('CUDA_VISIBLE_DEVICES')
        raise LaunchError(
            f'{processes} processes are started here, and {gpus} GPUs are '
            f'visible (CUDA_VISIBLE_DEVICES={visible}).'
        )


def use_gloo_without_gpus(cfg: Config) -> None:
    """Start a gloo process group on a machine without GPUs.

    mmengine sets the CUDA device of each process, which raises an error
    without GPUs; it keeps an existing process group.

    Args:
        cfg (Config): The config, changed in place.

    Raises:
        LaunchError: The launcher is for GPUs only.
    """
    if cfg.launcher == 'none' or torch.cuda.is_available():
        return
    if cfg.launcher == 'slurm':
        for name, slurm in (
            ('RANK', 'SLURM_PROCID'),
            ('WORLD_SIZE', 'SLURM_NTASKS'),
            ('LOCAL_RANK', 'SLURM_LOCALID'),
        ):
            os.environ[name] = os.environ[slurm]
        os.environ.setdefault('MASTER_PORT', '29500')
        if 'MASTER_ADDR' not in os.environ:
            command = ['scontrol', 'show', 'hostnames']
            nodes = subprocess.check_output(command, text=True)
            os.environ['MASTER_ADDR'] = nodes.split()[0]
    elif cfg.launcher != 'pytorch':
        raise LaunchError(f'--launcher {cfg.launcher} needs GPUs.')
    if not is_distributed():
        seconds = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout')
        torch.distributed.init_process_group(
            'gloo', timeout=timedelta(seconds=seconds or TIMEOUT)
        )
    cfg.merge_from_dict(
        dict(
            env_cfg=dict(dist_cfg=dict(backend='gloo')),
            model_wrapper_cfg=dict(
                type='MMDistributedDataParallel',
                device_ids=None,
                broadcast_buffers=False,
                find_unused_parameters=cfg.get(
                    'find_unused_parameters', False
                ),
            ),
        )
    )
    if _replace(cfg.model, 'type', 'SyncBN', 'BN') and is_main_process():
        print('Without GPUs, SyncBN is replaced by BN.')


def _replace(value: Any, key: str, old: str, new: str) -> int:
    """Replace a setting at all levels; return the number of changes."""
    count = 0
    if isinstance(value, dict):
        if value.get(key) == old:
            value[key] = new
            count += 1
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        count += sum(_replace(item, key, old, new) for item in value)
    return count


def build_runner(cfg: Config) -> Runner:
    """Build the config's runner."""
    use_gloo_without_gpus(cfg)
    custom = 'runner_type' in cfg
    runner = RUNNERS.build(cfg) if custom else Runner.from_cfg(cfg)
    runner.register_hook(_BeginningHook())
    return runner


class _BeginningHook(Hook):
    """Prepare the process and its loaders, when the datasets are read."""

    def before_run(self, runner: Runner) -> None:
        if not torch.cuda.is_available():
            keep_freed_memory()  # of steps, not of the datasets
        for loop in (runner._val_loop, runner._test_loop):
            if isinstance(loop, BaseLoop):
                shield_workers(loop.dataloader)  # training loops do it
