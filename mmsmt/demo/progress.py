"""Run a command with one line of progress."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from mmsmt.errors import UserError


def run_with_progress(
    command: list[object],
    what: str,
    log: Path,
    epochs: int,
    environ: Mapping[str, str] | None = None,
    show: bool = True,
    stopped: Callable[[], bool] | None = None,
) -> None:
    """Run a command with its output in a log and one line of progress.

    Args:
        command (list[object]): The program and its arguments.
        what (str): Its name in messages.
        log (Path): The log, whose folder is made.
        epochs (int): Number of epochs, for the line of progress.
        environ (Mapping[str, str], optional): Variables of the environment,
            besides those of this process.
        show (bool): Print the progress.
        stopped (Callable, optional): Returns whether the program is to end
            early, of one in a thread, where signals do not arrive.

    Raises:
        UserError: It failed; the message has the end of its output.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if show:
        print(f'Log: {log}', flush=True)
    with open(log, 'wb') as file:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environ or {})},
        )
    shown, width = '', 0
    terminal = show and sys.stdout.isatty()
    try:
        while process.poll() is None:
            time.sleep(0.5)
            if stopped and stopped():
                raise UserError(f'{what} was stopped.')
            if not show:
                continue
            line = describe_progress(log.read_text(errors='replace'), epochs)
            # On a terminal one line is rewritten; elsewhere a line is printed
            # for each tenth.
            mark = line if terminal else re.sub(r'\d %.*', '', line)
            if mark != shown:
                shown = mark
                width = max(width, len(line))
                end = '\r' if terminal else '\n'
                print(line.ljust(width), end=end, flush=True)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if terminal:
        print()
    if process.returncode:
        tail = log.read_text(errors='replace').splitlines()[-20:]
        raise UserError('\n'.join([*tail, f'\n{what} failed; see {log}']))


def describe_progress(log: str, epochs: int) -> str:
    """Summarize a log of mmengine in one line."""
    steps = re.findall(
        r'(?:Epoch|Iter)\(train\)\s+(?:\[(\d+)\])?\[\s*(\d+)/\s*(\d+)\]'
        r'.* eta: ([\d:]+).* loss: ([\d.]+)',
        log,
    )
    if not steps:
        return 'Starting'
    epoch, done, total, left, loss = steps[-1]
    where = f'epoch {epoch} of {epochs}' if epoch else f'iteration {done}'
    if log.rfind('(val)') > log.rfind('(train)'):
        return f'Evaluating after {where}'
    percent = 100 * int(done) // int(total)
    return f'Training: {where}, {percent:3d} %, loss {loss}, {left} left'
