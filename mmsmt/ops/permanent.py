"""Serve mmcv's operators in every Python of an environment.

    python -m mmsmt.ops.permanent          turn it on
    python -m mmsmt.ops.permanent --undo   turn it off

Two small files are written to site-packages: a copy of
:mod:`mmsmt.ops.finder`, and a ``.pth`` file that installs it whenever Python
starts. mmcv's own files are not changed, and a compiled ``mmcv._ext`` that
loads is still preferred. This file uses the standard library only, and can run
as a script.
"""

import argparse
import site
import sys
import sysconfig
from pathlib import Path

HOOK = '_mmsmt_ops.py'
START = 'mmsmt_ops.pth'


class PermanentError(RuntimeError):
    """Error for files that cannot be written or removed."""


def _folders() -> list[Path]:
    """Return the folders from which this Python reads ``.pth`` files."""
    folders = [sysconfig.get_paths()['purelib']]
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return [Path(folder) for folder in folders]


def turn_on() -> Path:
    """Write the two files; safe to repeat.

    Returns:
        The folder of the files.

    Raises:
        PermanentError: No folder of this Python can be written to.
    """
    source = Path(__file__).with_name('finder.py').read_text('utf-8')
    problems = []
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / HOOK).write_text(f'{source}\n\ninstall()\n', 'utf-8')
            (folder / START).write_text(f'import {Path(HOOK).stem}\n', 'utf-8')
        except OSError as error:
            problems.append(f'- {error}')
        else:
            return folder
    raise PermanentError(
        'No folder of this Python can be written to:\n' + '\n'.join(problems)
    )


def find_files() -> list[Path]:
    """Return the existing ones of the two files."""
    paths = [folder / n for folder in _folders() for n in (START, HOOK)]
    return [path for path in paths if path.is_file()]


def turn_off() -> list[Path]:
    """Remove the files.

    Returns:
        The removed files.

    Raises:
        PermanentError: A file cannot be removed.
    """
    found = find_files()
    try:
        for path in found:
            path.unlink()
    except OSError as error:
        raise PermanentError(f'Not removed: {error}') from error
    return found


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog='python -m mmsmt.ops.permanent',
        description=__doc__.split('\n')[0],
    )
    parser.add_argument('--undo', action='store_true', help='remove the files')
    args = parser.parse_args(arguments)
    try:
        if args.undo:
            removed = turn_off()
            print(*(f'Removed {path}' for path in removed), sep='\n')
            return
        print(
            "mmcv's operators are served in every Python that reads "
            f'{turn_on()}.\nUndo: python -m mmsmt.ops.permanent --undo'
        )
    except PermanentError as error:
        sys.exit(f'Error: {error}')


if __name__ == '__main__':
    main()
