"""Run steps of the model: call, recompute, or compute in bands.

The model calls :func:`run`; its layers ask :mod:`mmsmt.execution.contracts`
whether a module may be computed in another way than by calling it.
"""

from .contracts import disabled
from .steps import run

__all__ = ['disabled', 'run']
