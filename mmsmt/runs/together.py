"""End all processes of a run with one message."""

from collections.abc import Callable
from typing import Any, TypeVar

from mmengine.dist import broadcast_object_list, is_main_process

from mmsmt.errors import UserError

Result = TypeVar('Result')


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
