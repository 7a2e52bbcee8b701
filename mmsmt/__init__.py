"""mmsmt: the Scale-Aware Modulation Transformer for OpenMMLab."""

from importlib.util import find_spec

from .ops import install as _serve_operators
from .version import __version__

__all__ = ['SMT', '__version__']

# The parts that need no torch or mm package (the digits, the diagnosis of a
# broken environment) work without them.
_CORE = ('torch', 'mmengine', 'mmcv')
_MISSING = [name for name in _CORE if find_spec(name) is None]
_serve_operators()  # before mmcv's are imported

if not _MISSING:
    try:
        from .integration import extend_mmengine as _extend_mmengine
        from .models import SMT
    except ImportError:
        from . import environment

        environment.check(
            needs=()
        )  # names the packages that do not go together
        raise

    _extend_mmengine()


def __getattr__(name: str):
    if name == 'SMT':
        raise ImportError(
            f'mmsmt.SMT needs {", ".join(_MISSING)}. An environment in which '
            'the packages go together: python3 tools/setup_env.py'
        )
    raise AttributeError(f"module 'mmsmt' has no attribute '{name}'")
