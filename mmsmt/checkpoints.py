"""Former names of :mod:`mmsmt.weights`, for one version."""

import warnings

_NAMES = {
    'fetch': 'fetch_checkpoint',
    'identify': 'identify_archs',
    'load': 'load_weights',
    'mismatches': 'describe_mismatches',
    'read': 'read_weights',
    'read_file': 'read_checkpoint',
    'unwrap': 'extract_state_dict',
}


def __getattr__(name: str) -> object:
    """Return an object from its new module, with a deprecation warning."""
    from mmsmt import weights
    from mmsmt.models import init, state_dict

    new = _NAMES.get(name, name)
    for module in (weights, state_dict, init):
        if not name.startswith('__') and hasattr(module, new):
            warnings.warn(
                f'mmsmt.checkpoints.{name} is now {module.__name__}.{new}; '
                'the former name will be removed in the next version.',
                DeprecationWarning,
                stacklevel=2,
            )
            return getattr(module, new)
    raise AttributeError(
        f"module 'mmsmt.checkpoints' has no attribute '{name}'"
    )
