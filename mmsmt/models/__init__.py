"""Define SMT, in the terms of the paper."""

from .smt import SMT

__all__ = ['SMT']
