"""Find the checkpoints of a work dir, whatever its records say."""

import zipfile
from pathlib import Path
from typing import NamedTuple

from mmsmt.weights import CheckpointError, read_checkpoint

STOPPED = 'stopped.pth'
"""Checkpoint of a run that stopped between two regular ones."""


class Checkpoint(NamedTuple):
    """A checkpoint that a run can be resumed from.

    Args:
        iteration (int): Iterations that are finished.
        epoch (int): Epochs that are finished.
        path (Path): The file.
        seed (int | None): Seed of the run.
        processes (int | None): Number of its processes, if it is recorded.
        batch (int | None): Images of a process in an iteration, likewise.
    """

    iteration: int
    epoch: int
    path: Path
    seed: int | None = None
    processes: int | None = None
    batch: int | None = None

    def check(self) -> None:
        """Read the whole file.

        Raises:
            CheckpointError: It is damaged, or refused.
        """
        read_checkpoint(self.path)
        if damaged := find_damage(self.path):
            raise CheckpointError(
                f"'{self.path}' is damaged: {damaged} in it has not its "
                'checksum.'
            )


def find_damage(path: Path) -> str | None:
    """Find a part of a checkpoint that does not have its checksum.

    Args:
        path (Path): The file; torch.save's old format has no checksums.

    Returns:
        str | None: Name of the part in the file, None if all is whole.
    """
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def describe(path: Path) -> Checkpoint | None:
    """Read what a checkpoint says of itself.

    Args:
        path (Path): A file.

    Returns:
        Checkpoint | None: None if a run cannot be resumed from it.

    Raises:
        CheckpointError: It cannot be read.
    """
    content = read_checkpoint(path, lazily=True)
    meta = content.get('meta')
    if not isinstance(meta, dict) or 'message_hub' not in content:
        return None
    if 'optimizer' not in content and path.name.startswith('best_'):
        return None
    iteration, epoch = meta.get('iter'), meta.get('epoch')
    if not isinstance(iteration, int) or not isinstance(epoch, int):
        return None
    given = meta.get('run')
    run = given if isinstance(given, dict) else {}
    return Checkpoint(
        iteration,
        epoch,
        path,
        meta.get('seed'),
        run.get('processes'),
        run.get('batch'),
    )


def find_all(folder: Path) -> tuple[list[Checkpoint], list[str]]:
    """Find the checkpoints of the run in a folder.

    Args:
        folder (Path): The folder.

    Returns:
        tuple[list[Checkpoint], list[str]]: The newest first, and a message
        for each file that cannot be read.
    """
    found, problems = [], []
    for path in sorted(folder.glob('*.pth')):
        try:
            checkpoint = describe(path)
        except (CheckpointError, OSError) as error:
            problems.append(str(error))
            continue
        if checkpoint:
            found.append(checkpoint)
    # Of one iteration, what stopped the run is the later one.
    found.sort(
        key=lambda item: (*item[:2], item.path.name == STOPPED), reverse=True
    )
    return found, problems


def find_newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Find the newest whole checkpoint of the run in a folder.

    Args:
        folder (Path): The folder.

    Returns:
        tuple[Checkpoint | None, list[str]]: The checkpoint, None if there is
        none; and a message for each damaged one.
    """
    found, problems = find_all(folder)
    for checkpoint in found:
        try:
            checkpoint.check()
        except CheckpointError as error:
            problems.append(str(error))
        else:
            return checkpoint, problems
    return None, problems
