"""A Python that starts in a moment: forks of one that has torch and the hosts.

A server imports them once and forks a process for each program. Its clients
are an executable that takes Python's command line; it lends the program its
streams, environment and folder, passes signals on, and ends as the program
ends. ``sys.executable`` of a program is this executable too, so that what it
starts is a fork as well. The project itself is not imported in the server: a
program still finds it as a user's does.
"""

import contextlib
import gc
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

HOSTS = ('mmdet', 'mmseg', 'mmpretrain')
FOLDER = 'MMSMT_TESTS_FORKS'


# The side of the tests -------------------------------------------------------


def open_folder() -> Path | None:
    """Choose the server's folder, for this process and those it starts.

    Returns:
        Path | None: The folder, to be closed; None if it is another's.
    """
    if FOLDER in os.environ:
        return None
    os.environ[FOLDER] = tempfile.mkdtemp(prefix='forks')
    return Path(os.environ[FOLDER])


def close_folder(folder: Path) -> None:
    """End the server, if one was started, and remove its folder."""
    if (folder / 'pid').exists():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int((folder / 'pid').read_text()), signal.SIGTERM)
    shutil.rmtree(folder, ignore_errors=True)


def executable() -> str:
    """The client to start instead of ``sys.executable``.

    The first that asks starts the server; others wait until it is ready.
    """
    import fcntl

    folder = Path(os.environ[FOLDER])
    client = folder / 'python'
    with open(folder / 'lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not client.exists():
            process = subprocess.Popen(
                [sys.executable, __file__, folder],
                stdout=subprocess.PIPE,
                env={
                    **os.environ,
                    'OMP_NUM_THREADS': '1',
                    'PYTORCH_NVML_BASED_CUDA_CHECK': '1',  # no CUDA before
                },
                start_new_session=True,
            )
            if process.stdout.readline() != b'ready\n':
                raise RuntimeError('The fork server did not start.')
            (folder / 'pid').write_text(str(process.pid))
            client.write_text(
                f'#!/bin/sh\nexec {sys.executable} -S -E '
                f'{Path(__file__).with_name("client.py")} {folder}/socket '
                f'{sys.executable} "$@"\n'
            )
            client.chmod(0o755)
    return str(client)


# The side of the server ------------------------------------------------------


def leave_configs_unformatted() -> None:
    """Skip yapf when mmengine prints a config, which takes 0.7 s a time."""
    from yapf.yapflib import yapf_api

    yapf_api.FormatCode = lambda text, **kwargs: (text, True)


def preload() -> None:
    """Import what most programs import, but nothing of the project."""
    import importlib

    import matplotlib

    matplotlib.use('Agg')
    leave_configs_unformatted()
    import torch

    torch.set_num_threads(1)
    names = ['torchvision', 'mmcv.ops', 'mmengine.runner', 'pycocotools.coco']
    names += [
        'torch.distributed.run',
        'multiprocessing.spawn',
        'torch._dynamo',
    ]
    for host in HOSTS:
        parts = 'datasets', 'models', 'engine', 'evaluation', 'visualization'
        names += [f'{host}.{part}' for part in parts]
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()  # mmengine collects garbage for each dataset


def run_program(args: list[str]) -> int:
    """Run a program in this process, which is a fork.

    Args:
        args (list[str]): ``-c CODE ...``, ``-m MODULE ...`` or ``SCRIPT ...``.

    Returns:
        int: Its exit status.
    """
    first, *rest = args
    script = first not in ('-c', '-m')
    folder = str(Path(first).resolve().parent) if script else os.getcwd()
    path = [p for p in os.environ.get('PYTHONPATH', '').split(':') if p]
    sys.path[:] = [folder, *path, *sys.path[1:]]
    sys.argv = [first, *rest] if script else ['-c', *rest[1:]]
    status = 0
    try:
        if script:
            runpy.run_path(first, run_name='__main__')
        elif first == '-m':
            runpy.run_module(rest[0], run_name='__main__', alter_sys=True)
        else:
            scope = {'__name__': '__main__', '__builtins__': __builtins__}
            exec(compile(rest[0], '<string>', 'exec'), scope)
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

    threading._shutdown()
    atexit._run_exitfuncs()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def supervise(connection: socket.socket, folder: Path) -> None:
    """Run a client's program in a child; send its wait status."""
    message, streams, _, _ = socket.recv_fds(connection, 2**22, 3)
    while not message.endswith(b'\n'):
        message += connection.recv(2**22)
    request = json.loads(message)
    child = os.fork()
    if child == 0:
        connection.close()
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
            os.close(stream)
        status = 1
        try:
            os.chdir(request['cwd'])
            os.environ.clear()
            os.environ.update(request['environ'])
            sys.executable = str(folder / 'python')
            status = run_program(request['args'])
        finally:
            finish(status)

    def pass_signals_on() -> None:
        with contextlib.suppress(OSError):
            while number := connection.recv(1):
                os.kill(child, number[0])
            os.kill(child, signal.SIGKILL)  # the client is gone

    for stream in streams:
        os.close(stream)
    threading.Thread(target=pass_signals_on, daemon=True).start()
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        connection.sendall(str(status).encode())


def serve(folder: Path) -> None:
    """Fork for each client, until the folder is gone."""
    ready = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    preload()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / 'socket'))
    listener.listen(64)
    listener.settimeout(5)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors are reaped
    print('ready', file=ready, flush=True)
    ready.close()
    while folder.exists():
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            try:
                connection.setblocking(True)
                supervise(connection, folder)
            finally:
                os._exit(0)
        connection.close()


if __name__ == '__main__':
    serve(Path(sys.argv[1]))
