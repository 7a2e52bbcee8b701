"""Faults of a dataset, collected before one error reports them."""

from collections.abc import Iterator
from typing import NamedTuple

from .files import DataError


class Finding(NamedTuple):
    """A fault of a dataset.

    Args:
        error (bool): True if the run must not start.
        where (str): The file, or the loader and the setting.
        text (str): The fault, with its image and annotation.
        remedy (str): The way to repair it.
    """

    error: bool
    where: str
    text: str
    remedy: str = ''

    def __str__(self) -> str:
        line = f'{"ERROR" if self.error else "warning"}  {self.where}: '
        line += self.text
        return f'{line}\n       {self.remedy}' if self.remedy else line


class Findings:
    """A list of faults that drops repetitions."""

    def __init__(self) -> None:
        self._found: dict[Finding, None] = {}

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def error(self, where: object, text: str, remedy: str = '') -> None:
        """Add a fault that stops the run."""
        self._found.setdefault(Finding(True, str(where), text, remedy))

    def warn(self, where: object, text: str, remedy: str = '') -> None:
        """Add a fault that does not stop the run."""
        self._found.setdefault(Finding(False, str(where), text, remedy))

    def add(self, finding: Finding) -> None:
        """Add a fault."""
        self._found.setdefault(finding)

    @property
    def errors(self) -> list[Finding]:
        """Faults that stop the run."""
        return [finding for finding in self if finding.error]

    def raise_errors(self) -> None:
        """Raise one error for all faults that stop the run.

        Raises:
            DataError: There is at least one.
        """
        if self.errors:
            count = len(self.errors)
            lines = '\n'.join(map(str, self.errors))
            raise DataError(
                f'The data has {count} fault{"s" if count > 1 else ""}:\n'
                f'{lines}'
            )
