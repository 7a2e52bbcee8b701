"""Hooks of every run: what it starts from, saves, and stops for."""

from .checkpoint import WholeCheckpointHook
from .guard import GuardHook
from .predictions import PredictionHook
from .saving import SafeCheckpointHook
from .schedule import SafeParamSchedulerHook, ScheduleHook
from .summary import SummaryHook

__all__ = [
    'GuardHook',
    'PredictionHook',
    'SafeCheckpointHook',
    'SafeParamSchedulerHook',
    'ScheduleHook',
    'SummaryHook',
    'WholeCheckpointHook',
]
