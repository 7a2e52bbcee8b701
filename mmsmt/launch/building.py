"""Say which setting of a config a class of the hosts refuses."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config
from mmengine.registry import build_from_cfg

from mmsmt.data.building import WRONG
from mmsmt.environment import HOSTS
from mmsmt.errors import UserError

STOCK = {'mmsmt', 'mmengine', 'mmcv', 'torch', 'torchvision', *HOSTS}
"""Packages whose errors need no traceback to be understood."""


@contextmanager
def explain_building(cfg: Config) -> Iterator[None]:
    """Name the setting that a class of the hosts refuses.

    Errors in classes of other packages keep their traceback.

    Args:
        cfg (Config): The config that is built.

    Raises:
        UserError: A class is given wrong values, or is not registered.
    """
    try:
        yield
    except WRONG as error:
        local, trace = None, error.__traceback__
        while trace:  # the innermost one
            if trace.tb_frame.f_code is build_from_cfg.__code__:
                local = trace.tb_frame.f_locals
            trace = trace.tb_next
        if isinstance(error, UserError) or local is None:
            raise
        kind = local.get('obj_cls')
        package = getattr(inspect.getmodule(kind), '__name__', '')
        if kind is not None and package.partition('.')[0] not in STOCK:
            raise
        name = getattr(kind, '__name__', local.get('obj_type'))
        place = _find_place(cfg.to_dict(), local.get('cfg'))
        reason = error.args[0] if error.args else type(error).__name__
        raise UserError(
            f'{f"{place} ({name})" if place else name} cannot be built: '
            f'{reason}'
        ) from error


def _find_place(part: Any, wanted: Any, place: str = '') -> str:
    """Return the dotted key of settings in a config, '' if it is not one."""
    if isinstance(part, Mapping):
        if place and part == wanted:
            return place
        items = list(part.items())
    elif isinstance(part, (list, tuple)):
        items = list(enumerate(part))
    else:
        return ''
    found = {
        _find_place(value, wanted, f'{place}.{key}' if place else str(key))
        for key, value in items
    } - {''}
    return found.pop() if len(found) == 1 else ''
