"""Former name of :mod:`mmsmt.data`, for one version."""

import warnings

from mmsmt.data import digits

__all__ = ['digits']

warnings.warn(
    'mmsmt.datasets is now mmsmt.data; the former name will be removed in the '
    'next version.',
    DeprecationWarning,
    stacklevel=2,
)
