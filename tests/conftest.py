"""Shared fixtures; tests import helpers that stand beside this file."""

import importlib.util
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mmsmt  # noqa: F401, serves the operators before mmcv.ops is imported

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'tests'))

from support.forks import ForkServer  # noqa: E402

if 'PYTEST_XDIST_WORKER' in os.environ:  # workers share the cores
    torch.set_num_threads(1)


@pytest.fixture(scope='session')
def root() -> Path:
    """The checkout."""
    return ROOT


def run_python(*args, check: bool = True, cwd=None, **environ):
    """Run a new Python with arguments; its output is in ``stdout``."""
    result = subprocess.run(
        [sys.executable, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
        env={**os.environ, 'OMP_NUM_THREADS': '1', **environ},
    )
    if check:
        assert result.returncode == 0, result.stdout[-5000:]
    return result


def load_tool(name: str):
    """Import a script of tools/ as a module."""
    path = ROOT / 'tools' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tool(monkeypatch, capsys):
    """Run a tool in this process; returns its exit status and output.

    Quicker than a new Python, where nothing is left behind.
    """

    def run(name: str, *args):
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


@pytest.fixture(scope='session')
def new_python():
    """:func:`run_python`, for what happens at start and import."""
    return run_python


@pytest.fixture(scope='session')
def python():
    """Run Python as :func:`run_python` does, in a fork of a warm one."""
    server = ForkServer()

    def run(*args, check: bool = True, cwd=None, **environ):
        if args[0] == '-m':
            return run_python(*args, check=check, cwd=cwd, **environ)
        args = [str(arg) for arg in args]
        environ = {**os.environ, 'OMP_NUM_THREADS': '1', **environ}
        status, output = server.run(args, str(cwd or os.getcwd()), environ)
        result = subprocess.CompletedProcess(args, status, output)
        if check:
            assert status == 0, output[-5000:]
        return result

    yield run
    server.close()
