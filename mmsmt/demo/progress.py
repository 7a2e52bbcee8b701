"""Run a command with one line of progress."""

import re
import subprocess
import sys
import time
from pathlib import Path

from mmsmt.errors import UserError


def run_with_progress(
    command: list[object], what: str, log: Path, epochs: int
) -> None:
    """Run a command with its output in a log and one line of progress."""
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f'Log: {log}', flush=True)
    with open(log, 'wb') as file:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    shown, width = '', 0
    terminal = sys.stdout.isatty()
    try:
        while process.poll() is None:
            time.sleep(0.5)
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
        r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\].* eta: ([\d:]+)'
        r'.* loss: ([\d.]+)',
        log,
    )
    if not steps:
        return 'Starting'
    epoch, done, total, left, loss = steps[-1]
    percent = 100 * int(done) // int(total)
    text = f'Training: epoch {epoch} of {epochs}, {percent:3d} %'
    text += f', loss {loss}, {left} left'
    if log.rfind('Epoch(val)') > log.rfind('Epoch(train)'):
        text = f'Evaluating after epoch {epoch} of {epochs}'
    return text
