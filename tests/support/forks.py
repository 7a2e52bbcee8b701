"""Run Python programs without starting a Python for each.

A server imports torch and the hosts once, then forks a process for each
program: the same isolation, without seconds of imports. The project itself is
not imported in the server, so that a program still finds it as a user's does.
"""

import contextlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

HOSTS = ('mmdet', 'mmseg', 'mmpretrain')


class ForkServer:
    """A server process, started when it is first used."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None

    def run(self, args: list[str], cwd: str, environ: dict) -> tuple[int, str]:
        """Run ``python ARGS``, which are ``-c CODE ...`` or ``SCRIPT ...``.

        Returns:
            Exit status, and standard output and error as one text.
        """
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, 'OMP_NUM_THREADS': '1'},
            )
        with tempfile.NamedTemporaryFile('r', errors='replace') as output:
            request = dict(args=args, cwd=cwd, environ=environ)
            request['output'] = output.name
            self.process.stdin.write(json.dumps(request) + '\n')
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
            if not answer:
                raise RuntimeError('The fork server ended.')
            return int(answer), output.read()

    def close(self) -> None:
        """End the server."""
        if self.process is not None:
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait()


def preload() -> None:
    """Import what most programs import, but nothing of the project."""
    import importlib

    import matplotlib

    matplotlib.use('Agg')
    import torch

    torch.set_num_threads(1)
    names = ['torchvision', 'mmcv.ops', 'mmengine.runner', 'pycocotools.coco']
    for host in HOSTS:
        parts = 'datasets', 'models', 'engine', 'evaluation', 'visualization'
        names += [f'{host}.{part}' for part in parts]
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def run_program(request: dict) -> int:
    """Run a program in this process, which is a fork.

    Returns:
        Its exit status.
    """
    descriptor = os.open(request['output'], os.O_WRONLY | os.O_APPEND)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (descriptor, 1), (descriptor, 2)):
        os.dup2(source, target)
    os.chdir(request['cwd'])
    os.environ.clear()
    os.environ.update(request['environ'])
    first, *rest = request['args']
    folder = '' if first == '-c' else str(Path(first).resolve().parent)
    path = [p for p in os.environ.get('PYTHONPATH', '').split(':') if p]
    sys.path[:] = [folder, *path, *sys.path[1:]]
    status = 0
    try:
        if first == '-c':
            code, *rest = rest
            sys.argv = ['-c', *rest]
            scope = {'__name__': '__main__', '__builtins__': __builtins__}
            exec(compile(code, '<string>', 'exec'), scope)
        else:
            sys.argv = [first, *rest]
            runpy.run_path(first, run_name='__main__')
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 0
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
            status = 1
    except BaseException:
        traceback.print_exc()
        status = 1
    return status


def finish(status: int) -> None:
    """End a fork as Python ends, but for the modules' memory."""
    import atexit
    import threading

    threading._shutdown()
    atexit._run_exitfuncs()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def serve() -> None:
    """Answer each request with the exit status of its program."""
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    preload()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            answers.close()
            status = 1
            try:
                status = run_program(json.loads(line))
            finally:
                finish(status)
        _, status = os.waitpid(child, 0)
        answers.write(f'{os.waitstatus_to_exitcode(status)}\n')
        answers.flush()


if __name__ == '__main__':
    serve()
