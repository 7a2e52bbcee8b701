"""mmsmt: the Scale-Aware Modulation Transformer for OpenMMLab."""

import multiprocessing
import sys
from importlib.util import find_spec
from pathlib import Path

from .ops import install as _serve_operators
from .version import __version__

__all__ = ['SMT', '__version__']

# The parts that need no torch or mm package (the digits, the diagnosis of a
# broken environment) work without them.
_CORE = ('torch', 'mmengine', 'mmcv')
_MISSING = [name for name in _CORE if find_spec(name) is None]
# The mmsmt command imports only the modules of its subcommand, so that help
# appears at once and the doctor runs in a broken environment.
_COMMAND = (
    Path(*sys.argv[:1]).stem == 'mmsmt'
    and multiprocessing.parent_process() is None
)
_serve_operators()  # before mmcv's operators are imported

if not (_MISSING or _COMMAND):
    try:
        from .integration import extend_mmengine as _extend_mmengine
        from .models import SMT
    except Exception:  # or a library of torch does not load
        from . import environment

        environment.check(
            needs=()
        )  # raises an error that names the incompatible packages
        raise

    _extend_mmengine()


def __getattr__(name: str) -> object:
    if name == 'SMT' and not _MISSING:
        from .models import SMT

        return SMT
    if name == 'SMT':
        raise ImportError(
            f'mmsmt.SMT needs {", ".join(_MISSING)}. To create an environment '
            'with compatible packages: python3 tools/setup_env.py'
        )
    raise AttributeError(f"module 'mmsmt' has no attribute '{name}'")
