"""Start the toy run in two processes."""

import os
import subprocess

import pytest
from support.toy import free_port


@pytest.fixture
def train_two(fork, root, tmp_path):
    """Run ``dist_train.sh`` with two processes; return status and output."""

    def run(config, work_dir, *args, **environ):
        result = subprocess.run(
            ['bash', 'tools/dist_train.sh', config, '2']
            + ['--work-dir', work_dir, *args],
            cwd=root,
            env={
                **os.environ,
                'PYTHON': fork,
                'PYTHONPATH': str(root / 'tests'),
                'OMP_NUM_THREADS': '1',
                'PORT': str(free_port()),
                **environ,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=200,
        )
        return result.returncode, result.stdout

    return run
