"""Exported files, run in the place of their models."""

from .files import open_runtime
from .model import ExportedModel

__all__ = ['ExportedModel', 'open_runtime']
