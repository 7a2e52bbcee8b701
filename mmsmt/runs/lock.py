"""One run at a time in a work dir."""

import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

from mmsmt.errors import UserError

NAME = 'run.lock'
BEAT = 60.0
"""Seconds between two signs of life."""
SILENCE = 600.0
"""Seconds without one after which a run on another host counts as dead."""
WAITED = 3
"""Beats to wait for of a run on another host."""


class RunLock:
    """Context in which no other run may use a work dir.

    A file says who holds it: host, process, and a time stamp that beats.

    Args:
        work_dir (Path): The work dir.
    """

    def __init__(self, work_dir: Path) -> None:
        self.path = work_dir / NAME
        self._owner = {
            'host': socket.gethostname(),
            'pid': os.getpid(),
            'started': _start_of(os.getpid()),
            'namespace': _namespace(),
        }
        self._stop = threading.Event()

    def __enter__(self) -> None:
        """Take the lock.

        Raises:
            UserError: Another run holds it.
        """
        while not self._create():
            self._remove_if_stale()
        threading.Thread(target=self._beat, daemon=True).start()

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        if self._read() == self._owner:
            self.path.unlink(missing_ok=True)

    def _create(self) -> bool:
        try:
            number = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        # The copy of a work dir has another one.
        self._owner['file'] = os.fstat(number).st_ino
        try:
            with os.fdopen(number, 'w') as file:
                json.dump(self._owner, file)
        except OSError:  # the disk is full
            self.path.unlink(missing_ok=True)
            raise
        return True

    def _read(self, path: Path | None = None) -> dict:
        with suppress(OSError, ValueError):
            content = json.loads((path or self.path).read_text())
            if isinstance(content, dict):
                return content
        return {}  # just being written, or damaged

    def _remove_if_stale(self) -> None:
        try:
            silent = time.time() - self.path.stat().st_mtime
        except FileNotFoundError:  # given back meanwhile
            return
        owner = self._read()
        here = all(
            owner.get(key) == self._owner[key] for key in ('host', 'namespace')
        )
        if owner.get('file', self._inode()) != self._inode():
            stale = True  # a copy
        elif here and isinstance(owner.get('pid'), int):
            stale = _start_of(owner['pid']) != owner.get('started')
        else:
            stale = silent > SILENCE or not self._beats(owner)
        if not stale:
            who = _name(owner)
            raise UserError(
                f"'{self.path.parent}' is in use: {who} trains there, with "
                f'the last sign of life {silent:.0f} s ago. Use another '
                '--work-dir. If that run is surely over: rm '
                f"'{self.path}'"
            )
        # Of several that find it stale, one moves it away; a late one puts
        # the new lock back.
        aside = self.path.with_name(f'{NAME}.{os.getpid()}')
        with suppress(FileNotFoundError):
            self.path.rename(aside)
            if self._read(aside) != owner:
                with suppress(FileExistsError):
                    os.link(aside, self.path)
            aside.unlink()

    def _beats(self, owner: dict) -> bool:
        """Wait for a sign of life of a process that is not on this host.

        A job that was killed may start again elsewhere at once.
        """
        print(
            f"'{self.path.parent}' was in use by {_name(owner)}: waiting "
            f'{WAITED * BEAT:.0f} s for a sign of life.',
            flush=True,
        )
        end = time.monotonic() + WAITED * BEAT
        with suppress(FileNotFoundError):  # given back meanwhile
            before = self.path.stat().st_mtime_ns
            while time.monotonic() < end:
                time.sleep(BEAT / 60)
                if self.path.stat().st_mtime_ns != before:
                    return True
        return False

    def _inode(self) -> int | None:
        with suppress(OSError):
            return self.path.stat().st_ino
        return None

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            # Another run has taken it if this one was suspended for long.
            with suppress(OSError):
                if self._inode() == self._owner.get('file'):
                    os.utime(self.path)


def _name(owner: dict) -> str:
    if not owner:
        return 'an unknown process'
    return f'process {owner.get("pid")} on {owner.get("host")}'


def _start_of(pid: int) -> str | None:
    """Return when a process of this host started, None if it is over.

    Numbers of processes come again; the times of their starts do not.
    """
    with suppress(OSError, IndexError):
        stat = Path(f'/proc/{pid}/stat').read_text()
        state, *fields = stat.rpartition(')')[2].split()
        boot = Path('/proc/sys/kernel/random/boot_id').read_text().strip()
        return None if state in 'ZX' else f'{boot} {fields[18]}'
    if Path('/proc/self/stat').exists():
        return None
    try:  # not Linux
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 'running'


def _namespace() -> str | None:
    """Return what tells containers on one host apart, None if unknown."""
    with suppress(OSError):
        return os.readlink('/proc/self/ns/pid')
    return None
