"""Hooks that every run has: whole checkpoints, and a summary."""

from .checkpoint import WholeCheckpointHook
from .summary import SummaryHook

__all__ = ['SummaryHook', 'WholeCheckpointHook']
