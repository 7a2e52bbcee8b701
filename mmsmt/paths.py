"""Find the package's files."""

from pathlib import Path


def configs_dir() -> Path:
    """Return the folder of the configs, in a wheel or a checkout."""
    return Path(__file__).parent / '.mim' / 'configs' / 'smt'
