"""Keep the results of checks until a file changes."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mmsmt.version import __version__

from .findings import Finding, Findings
from .shared import MOST
from .summary import Summary

FEWEST = 2000
"""Number of images from which results are kept."""


def cache_folder() -> Path:
    """Return the folder of the results, which may not exist."""
    home = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(home, 'mmsmt', 'checks')


def load_result(
    key: str, findings: Findings
) -> tuple[Summary, tuple[str, ...]] | None:
    """Return the result of a check, unless a file has changed since.

    Args:
        key (str): All settings that the check depends on.
        findings (Findings): Extended in place by what the check found.

    Returns:
        tuple[Summary, tuple[str, ...]]: Contents, and names of the classes.
    """
    try:
        content = json.loads(_path_of(key).read_text('utf-8'))
        if content['signature'] != sign(content['places']):
            return None
        summary = Summary(**content['summary'])
        for finding in content['findings']:
            findings.add(Finding(*finding))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    for name in ('objects', 'sizes', 'dropped'):
        setattr(summary, name, Counter(getattr(summary, name)))
    summary.classes = tuple(summary.classes)
    return summary, tuple(content['names'])


def store_result(
    key: str,
    summary: Summary,
    names: tuple[str, ...],
    findings: Findings,
    places: Iterable[str],
) -> None:
    """Store the result of a check of many images.

    Args:
        key (str): All settings that the check depends on.
        summary (Summary): Contents of the dataset.
        names (tuple[str, ...]): Names of the classes.
        findings (Findings): What the check found.
        places (Iterable[str]): Files and folders that were read.
    """
    if summary.images < FEWEST:
        return
    places = sorted(set(places))
    fields = dict(vars(summary), files={}, folders=[])
    if len(summary.paths) > MOST:
        fields['paths'] = []
    content = dict(
        places=places,
        signature=sign(places),
        summary=fields,
        names=names,
        findings=list(findings),
    )
    path = _path_of(key)
    part = path.with_suffix(f'.{os.getpid()}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(content), 'utf-8')
        os.replace(part, path)
    except OSError:  # a cache is not worth an error
        return


def sign(places: Iterable[str]) -> str:
    """Return a hash of names, sizes and times of files and folders."""
    state = hashlib.sha256()
    for place in places:
        state.update(place.encode())
        if os.path.isfile(place):
            found = os.stat(place)
            state.update(f'{found.st_size} {found.st_mtime_ns}'.encode())
            continue
        with os.scandir(place) as entries:
            lines = []
            for entry in entries:
                text = entry.name
                if entry.is_file():
                    found = entry.stat()
                    text += f' {found.st_size} {found.st_mtime_ns}'
                lines.append(text)
        state.update('\n'.join(sorted(lines)).encode())
    return state.hexdigest()


def _path_of(key: str) -> Path:
    name = hashlib.sha256(f'{__version__} {key}'.encode()).hexdigest()
    return cache_folder() / f'{name}.json'
