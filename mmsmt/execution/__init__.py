"""Run steps of the model: call, recompute, or compute in bands.

The model calls :func:`run`; its layers check with
:mod:`mmsmt.execution.contracts` that a module may be computed without a call.
"""

from .contracts import disabled
from .steps import run

__all__ = ['disabled', 'run']
