"""Rank of a process, before its group exists."""

import os

from mmengine.dist import get_rank, is_distributed

_LAUNCHED = {'launcher': 'none'}


def set_launcher(launcher: str) -> None:
    """Set by what this process was launched.

    Args:
        launcher (str): ``none``, ``pytorch``, ``slurm`` or ``mpi``.
    """
    _LAUNCHED['launcher'] = launcher


def launched_rank() -> int:
    """Return this process's rank, also before a process group exists.

    Without a launcher it is 0: the variables may be those of a scheduler
    that started several commands of their own.
    """
    if is_distributed():
        return get_rank()
    if _LAUNCHED['launcher'] == 'none':
        return 0
    environ = os.environ
    names = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')
    return int(next((environ[x] for x in names if x in environ), 0))
