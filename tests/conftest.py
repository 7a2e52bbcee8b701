"""Shared fixtures; helpers are in ``support``."""

import gc
import os
import runpy
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'tests'))

from support import forks  # noqa: E402
from support.runs import CONFIG, SHORT  # noqa: E402

os.environ['MMSMT_REPORT'] = '0'  # one test trains with a report
WORKER = 'PYTEST_XDIST_WORKER' in os.environ


@pytest.fixture(scope='session')
def root() -> Path:
    """The checkout."""
    return ROOT


def pytest_configure(config) -> None:
    """Keep one fork server for all workers; import what each needs."""
    if not WORKER:
        config.forks = forks.open_folder()
        if config.getoption('numprocesses', None):
            return  # its workers collect and run
    import torch

    forks.leave_configs_unformatted()
    import mmsmt  # noqa: F401, serves the operators before mmcv.ops

    if WORKER:  # they share the cores
        torch.set_num_threads(1)


@pytest.fixture(scope='module', autouse=True)
def collect_less():
    """Leave what earlier files have made out of searches for garbage.

    mmengine starts one for each dataset, and the objects of the hosts' modules
    are many.
    """
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config) -> None:
    if getattr(config, 'forks', None):
        forks.close_folder(config.forks)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, for workers that take whole files."""
    weights = Counter()
    for item in items:
        slow = item.get_closest_marker('slow') is not None
        weights[item.path] += 10 if slow else 1
    items.sort(key=lambda item: -weights[item.path])


def run_python(
    *args, check: bool = True, cwd=None, executable=sys.executable, **environ
):
    """Run a new Python with arguments; its output is in ``stdout``."""
    result = subprocess.run(
        [executable, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
        env={**os.environ, 'OMP_NUM_THREADS': '1', **environ},
    )
    if check:
        assert result.returncode == 0, result.stdout[-5000:]
    return result


def forget_runs() -> None:
    """Forget mmengine's loggers and visualizers, whose files may be gone.

    It names a run by its second, and finds those of that second again.
    """
    if 'mmengine.runner' not in sys.modules:
        return
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.visualization import Visualizer

    visualizers = Visualizer, *Visualizer.__subclasses__()
    for kind in (MMLogger, MessageHub, *visualizers):
        kind._instance_dict.clear()


@pytest.fixture(autouse=True)
def no_runs_before() -> None:
    """Let no run find loggers of the test before."""
    forget_runs()


@pytest.fixture
def tool(monkeypatch, capsys):
    """Run a tool in this process; returns its exit status and output.

    Quicker than a new Python, where nothing is left behind.
    """

    def run(name: str, *args):
        forget_runs()
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, 'argv', [name, *map(str, args)])
        status = 0
        try:
            runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')
        except SystemExit as stop:
            status = stop.code or 0
        output = capsys.readouterr()
        text = output.out + output.err
        if isinstance(status, str):  # Python prints it and exits with 1
            status, text = 1, text + status
        return status, text

    return run


@pytest.fixture
def tool_of(capsys):
    """Run ``mmsmt`` in this process; returns its exit status and output."""
    from mmsmt import cli

    def run(*args):
        forget_runs()
        status = 0
        try:
            cli.main([str(arg) for arg in args])
        except SystemExit as stop:
            status = stop.code or 0
        output = capsys.readouterr()
        text = output.out + output.err
        if isinstance(status, str):
            status, text = 1, text + status
        return status, text

    return run


@pytest.fixture(scope='session')
def new_python():
    """:func:`run_python`, for what happens at start and import."""
    return run_python


@pytest.fixture(scope='session')
def fork() -> str:
    """An executable like Python that has imported torch and the hosts."""
    return forks.executable()


@pytest.fixture(scope='session')
def python(fork):
    """:func:`run_python`, in a fork of a warm one."""
    return partial(run_python, executable=fork)


@pytest.fixture(scope='session')
def coco(tmp_path_factory) -> Path:
    """Six images of digits in COCO's layout."""
    from mmsmt.data import digits

    out = tmp_path_factory.mktemp('data') / 'coco'
    digits.write('coco', out, 4, 2, (64, 64))
    return out


@pytest.fixture(scope='session')
def trained(
    request, python, new_python, root, coco, tmp_path_factory
) -> tuple[Path, str]:
    """A work dir after one epoch of tools/train.py, and its output."""
    work_dir = tmp_path_factory.mktemp('work') / 'run'
    smoke = request.config.getoption('markexpr') == 'smoke'
    result = (new_python if smoke else python)(
        *('tools/train.py', CONFIG, '--data-root', coco),
        *('--work-dir', work_dir, *SHORT, 'train_cfg.max_epochs=1'),
        cwd=root,
    )
    return work_dir, result.stdout
