"""Record the best checkpoints and the last validation of a run."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.dist import broadcast_object_list, is_main_process

from . import files

NAME = 'record.json'
RUN = 'run.json'
"""File of a start's log folder that says what ran."""
PREDICTIONS = 'predictions'
"""Folder of a work dir with what validations and tests predicted."""


class Best(NamedTuple):
    """Score and checkpoint of a metric's best."""

    score: float
    path: Path


class RunRecord:
    """Best checkpoint by metric, and the last finished validation.

    All processes have the same content; the first one writes it.

    Args:
        folder (Path): The folder of the checkpoints.
        iteration (int): Where the run starts or goes on; without a file its
            validation counts as done.
    """

    def __init__(self, folder: Path, iteration: int) -> None:
        self._path = folder / NAME
        content = [self._read(iteration) if is_main_process() else {}]
        broadcast_object_list(content)
        self._content: dict[str, Any] = content[0]

    def _read(self, iteration: int) -> dict:
        new = {'validated_iter': iteration, 'best': {}}
        if not self._path.is_file():
            files.write_text(self._path, json.dumps(new))
            return new
        try:
            content = new | json.loads(self._path.read_text('utf-8'))
        except (ValueError, TypeError):  # edited by hand
            files.write_text(self._path, json.dumps(new))
            return new
        content['best'] = {
            metric: entry
            for metric, entry in content['best'].items()
            if self._file(entry['file']).is_file()
        }
        return content

    def _file(self, name: str) -> Path:
        return self._path.parent / Path(name).name  # never elsewhere

    def get(self, metric: str) -> Best | None:
        """Return a metric's best, None if there is none."""
        entry = self._content['best'].get(metric)
        return entry and Best(entry['score'], self._file(entry['file']))

    def set_best(self, metric: str, score: float, name: str) -> None:
        """Record the best checkpoint of a metric, and remove the old one.

        Args:
            metric (str): Name of the metric.
            score (float): Its value.
            name (str): The checkpoint, in the record's folder.
        """
        old = self.get(metric)
        entries = self._content['best']
        entries[metric] = {'score': float(score), 'file': name}
        self._write()
        named = {self._file(entry['file']) for entry in entries.values()}
        if old and old.path not in named and is_main_process():
            old.path.unlink(missing_ok=True)

    def finish_validation(self, iteration: int) -> None:
        """Record that the validation after an iteration is finished."""
        self._content['validated_iter'] = iteration
        self._write()

    def validation_is_missing(self, iteration: int) -> bool:
        """Return True if the validation after an iteration was broken off."""
        return self._content['validated_iter'] < iteration

    def _write(self) -> None:
        if is_main_process():
            text = json.dumps(self._content, indent=1)
            files.write_text(self._path, text)
