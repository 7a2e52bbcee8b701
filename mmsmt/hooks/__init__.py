"""Hooks of every run: complete checkpoint loading, and a summary."""

from .checkpoint import WholeCheckpointHook
from .summary import SummaryHook

__all__ = ['SummaryHook', 'WholeCheckpointHook']
