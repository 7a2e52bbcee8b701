"""Find the package's files."""

from pathlib import Path


def configs_dir() -> Path:
    """Return the folder of the configs: the wheel's, or the checkout's."""
    return Path(__file__).parent / '.mim' / 'configs' / 'smt'
