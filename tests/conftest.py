"""Shared fixtures; tests import helpers that stand beside this file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'tests'))


@pytest.fixture(scope='session')
def root() -> Path:
    """The checkout."""
    return ROOT


def run_python(*args, check: bool = True, cwd=None, **environ):
    """Run this Python with arguments; its output is in ``stdout``."""
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


@pytest.fixture(scope='session')
def python():
    """:func:`run_python`."""
    return run_python
