"""Define SMT as the paper writes it."""

from .smt import SMT

__all__ = ['SMT']
