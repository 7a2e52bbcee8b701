"""Read checkpoint files without running code from them."""

import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from inspect import isroutine
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from mmsmt.models.state_dict import StateDict, strip_prefix

from .fetching import CheckpointError, fetch_checkpoint


class _Inert(dict):
    """Replacement of an object of a class that weights do not need."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        pass

    def append(self, item: object) -> None:
        pass

    def extend(self, items: object) -> None:
        pass


def _inert_getattr(owner: object, name: str) -> _Inert:
    """Replace ``getattr``, for the methods in a ``HistoryBuffer``."""
    if owner is not _Inert:
        raise _refusal('getattr')
    return _Inert()


def _refusal(name: str) -> CheckpointError:
    return CheckpointError(
        f"it asks to call or build '{name}', which weights do not need. "
        'Nothing was run. If you trust the source of the file, load it there '
        'and save the bare state_dict again.'
    )


# Names allowed in a file of weights; building these runs no foreign code.
_SAFE = {
    'collections.OrderedDict',
    'builtins.bytearray',
    'builtins.complex',
    'builtins.dict',
    'builtins.list',
    'builtins.set',
    'builtins.slice',
    '__builtin__.set',
    '_codecs.encode',
    'numpy.ndarray',
    'numpy.dtype',
    'numpy.core.multiarray._reconstruct',
    'numpy.core.multiarray.scalar',
    'numpy._core.multiarray._reconstruct',
    'numpy._core.multiarray.scalar',
    'torch.Size',
    'torch.device',
    'torch._utils._rebuild_parameter',
    'torch._utils._rebuild_tensor',
    'torch._utils._rebuild_tensor_v2',
    'torch.serialization._get_layout',
}
_INERT = {
    'argparse.Namespace',
    'collections.Counter',
    'collections.defaultdict',
    'collections.deque',
    'mmengine.config.config.ConfigDict',
    'mmengine.logging.history_buffer.HistoryBuffer',
    'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler',
    'pathlib.PosixPath',
    'torch.Tensor',
    'torch.nn.parameter.Parameter',
    'yacs.config.CfgNode',
}


def _rebuild_plainly(
    rebuild: Callable[..., Any], _: object, args: tuple, attributes: object
) -> object:
    """Rebuild a tensor to which FSDP gave attributes, without these."""
    return rebuild(*args)


class _SafeUnpickler(pickle.Unpickler):
    """Unpickler that resolves and imports known harmless names only."""

    def __setattr__(self, name: str, value: Any) -> None:
        # torch.load sets persistent_load; ids of kind 'module' would make
        # torch read and write source files.
        if name == 'persistent_load':
            load_storage = value

            def value(saved_id: object) -> object:
                if not isinstance(saved_id, tuple) or saved_id[0] not in (
                    'storage',
                    b'storage',
                ):
                    raise _refusal(f'persistent object {saved_id!r:.40}')
                return load_storage(saved_id)

        super().__setattr__(name, value)

    def find_class(self, module: str, name: str) -> object:
        full = f'{module}.{name}'
        if full in _INERT:
            return _Inert
        if full in ('builtins.getattr', '__builtin__.getattr'):
            return _inert_getattr
        if full == 'torch._tensor._rebuild_from_type_v2':
            return partial(_rebuild_plainly)
        if full in _SAFE or (
            module == 'torch'
            and isinstance(getattr(torch, name, None), torch.dtype)
        ):
            found = super().find_class(module, name)
            # A pickle can set attributes of a function; return a copy.
            return partial(found) if isroutine(found) else found
        raise _refusal(full)


class _SafePickle:
    """The part of the pickle module that ``torch.load`` uses."""

    Unpickler = _SafeUnpickler

    @staticmethod
    def load(file: BinaryIO, **kwargs: Any) -> object:
        return _SafeUnpickler(file, **kwargs).load()


def read_checkpoint(path: str | os.PathLike, lazily: bool = False) -> dict:
    """Read a whole checkpoint file without running code from it.

    Objects other than tensors and plain data (such as the yacs ``CfgNode``
    of the released files) are returned as empty dicts.

    Args:
        path (str | PathLike): A local file written by ``torch.save``.
        lazily (bool): Read tensors when they are used, where the format
            allows it. Defaults to False.

    Returns:
        dict: The file's content, tensors on the CPU.

    Raises:
        CheckpointError: The file is not a whole checkpoint, or a pickle that
            would call a function.
    """
    path = Path(path)
    with open(path, 'rb') as file:
        head = file.read(512).lstrip()
    if not head:
        raise CheckpointError(f"'{path}' is empty.")
    for start, what in (
        (b'<', 'a web page (HTML or XML), not weights: the download failed, '
         'or the address is that of a page'),
        (b'version https://git-lfs', 'a Git LFS pointer, not the file itself'),
    ):  # fmt: skip
        if head.startswith(start):
            raise CheckpointError(f"'{path}' is {what}. Fetch it again.")
    zipped = head.startswith(b'PK\x03\x04')
    if zipped and not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"'{path}' is truncated ({path.stat().st_size} bytes). "
            'Delete it and fetch it again.'
        )
    if tarfile.is_tarfile(path):
        raise CheckpointError(
            f"'{path}' is a tar archive: the weights may be a file in it."
        )
    try:
        if zipped and any(
            name.endswith('/constants.pkl')
            for name in zipfile.ZipFile(path).namelist()
        ):
            raise CheckpointError('it is a TorchScript program, not weights.')
        content = torch.load(
            str(path),
            map_location='cpu',
            pickle_module=_SafePickle,
            weights_only=False,
            mmap=lazily and zipped,
        )
    except CheckpointError as error:
        raise CheckpointError(f"'{path}' is refused: {error}") from None
    except Exception as error:
        raise CheckpointError(
            f"'{path}' cannot be read as a PyTorch checkpoint: it is "
            f'truncated, damaged, or something else ({error}).'
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"'{path}' holds a {type(content).__name__}, not a dict of "
            'weights.'
        )
    return content


def extract_state_dict(content: Mapping) -> StateDict:
    """Extract the weights from a checkpoint's content.

    Args:
        content (Mapping): Weights, bare or under ``model`` or ``state_dict``,
            with or without the prefix ``module.``.

    Returns:
        dict[str, Tensor]: The weights by name.

    Raises:
        CheckpointError: The content has no tensor.
    """
    for key in ('state_dict', 'model'):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    state = {k: v for k, v in content.items() if isinstance(v, Tensor)}
    if not state:
        some = ', '.join(map(str, list(content)[:5])) or 'nothing'
        raise CheckpointError(
            'There are no weights in it: expected tensors by name, bare or '
            f"under 'model' or 'state_dict', found {some}."
        )
    return strip_prefix(state, 'module.')


def read_classes(checkpoint: str) -> tuple[str, ...] | None:
    """Return the classes that a checkpoint of mmengine carries, or None.

    Args:
        checkpoint (str): A local path.
    """
    meta = read_checkpoint(checkpoint, lazily=True).get('meta')
    data = (meta.get('dataset_meta') if isinstance(meta, dict) else {}) or {}
    given = data.get('classes') or data.get('CLASSES')
    return tuple(given) if isinstance(given, (list, tuple)) else None


def read_weights(
    checkpoint: str | os.PathLike, prefix: str | None = None
) -> StateDict:
    """Read a backbone's weights from a file of any known format.

    Args:
        checkpoint (str | PathLike): A local path or URL.
        prefix (str, optional): Read only names with this prefix, and remove
            it. By default ``backbone.``, if the file has such names.

    Returns:
        dict[str, Tensor]: The weights, named as in the file without the
        prefix.

    Raises:
        CheckpointError: See :func:`fetch_checkpoint`, :func:`read_checkpoint`,
            :func:`extract_state_dict`.
    """
    path = fetch_checkpoint(checkpoint)
    content = read_checkpoint(path)
    try:
        state = extract_state_dict(content)
    except CheckpointError as error:
        raise CheckpointError(f"'{path}' cannot be used. {error}") from None
    if prefix is None:
        return strip_prefix(state, 'backbone.', partly=True)
    prefix = prefix.rstrip('.') + '.'
    if not any(name.startswith(prefix) for name in state):
        raise CheckpointError(
            f"'{path}' has no weights under '{prefix}', but "
            f'{summarize(state)}.'
        )
    return strip_prefix(state, prefix, partly=True)


def summarize(names: Iterable[str], limit: int = 4) -> str:
    """List the first names, and the total number if there are more."""
    names = list(names)
    rest = f', ... ({len(names)} in all)' if len(names) > limit else ''
    return ', '.join(names[:limit]) + rest
