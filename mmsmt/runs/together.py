"""Let all processes of a run have one state, and end with one message."""

from collections.abc import Callable
from typing import Any, TypeVar

from mmengine.dist import (
    all_reduce_params,
    broadcast_object_list,
    get_world_size,
    is_main_process,
)
from mmengine.runner import Runner

from mmsmt.errors import UserError

Result = TypeVar('Result')


def average_buffers(runner: Runner) -> None:
    """Average batch norm's statistics over all processes.

    Each process collects its own; the first one's alone would be saved.

    Args:
        runner (Runner): The runner; its model and an averaged one are changed
            in place.
    """
    if get_world_size() == 1:
        return
    models = [runner.model]
    models += [h.ema_model for h in runner.hooks if hasattr(h, 'ema_model')]
    for model in models:
        floats = [x for x in model.buffers() if x.is_floating_point()]
        if floats:
            all_reduce_params(floats, op='mean')


def raise_together(error: UserError | None) -> None:
    """Raise the first process's error there, and end the others.

    Called by all processes.

    Args:
        error (UserError, optional): The error; of the first process only.

    Raises:
        UserError: The error, in the first process.
        SystemExit: In the others, which print nothing.
    """
    failed = [error is not None]
    broadcast_object_list(failed)
    if error is not None:
        raise error
    if failed[0]:
        raise SystemExit(1)


def run_first(action: Callable[[], Result]) -> Result:
    """Run something in the first process while the others wait.

    Args:
        action (Callable): What to run; its result can be pickled.

    Returns:
        The result, in all processes.

    Raises:
        UserError: Of the action, in the first process.
        SystemExit: In the others, if it fails.
    """
    shared: list[Any] = [None]
    error = None
    if is_main_process():
        try:
            shared = [action()]
        except UserError as raised:
            error = raised
    raise_together(error)
    broadcast_object_list(shared)
    return shared[0]
