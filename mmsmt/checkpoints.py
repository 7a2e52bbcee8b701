"""Weights: where the released ones are, safe reading, strict loading.

A file is read without running any code from it, whatever wraps it, and loaded
whole or not at all.
"""

import os
import pickle
import re
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from functools import cache, partial
from http.client import HTTPException
from inspect import isroutine
from pathlib import Path
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, get_rank
from mmengine.logging import print_log
from mmengine.model.weight_init import update_init_info
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from mmsmt.registry import WEIGHT_INITIALIZERS

StateDict = dict[str, Tensor]

RELEASE = 'https://github.com/AFeng-x/SMT/releases/download/v1.0.0/'
RELEASED_WEIGHTS: dict[str, str] = {
    'tiny': RELEASE + 'smt_tiny.pth',
    'small': RELEASE + 'smt_small.pth',
    'base': RELEASE + 'smt_base.pth',
    'large-22k': RELEASE + 'smt_large_22k.pth',
    'large-22k-ft-224': RELEASE + 'smt_large_22k_224_ft.pth',
    'large-22k-ft-384': RELEASE + 'smt_large_22k_384_ft.pth',
}
"""URLs of the authors' weights: ImageNet-1K, and for large ImageNet-22K
(``layer_scale_init_value`` > 0). There are none for small-paper."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, or does not fit the model."""


# Reading ---------------------------------------------------------------------


def fetch(checkpoint: str | os.PathLike) -> Path:
    """Find a checkpoint on disk, downloading a URL into torch's cache.

    The cache is the one that mmengine uses too:
    ``$TORCH_HOME/hub/checkpoints``, or ``~/.cache/torch/hub/checkpoints``.

    Args:
        checkpoint (str | PathLike): A local path or an http(s) URL.

    Returns:
        Path: The local file.

    Raises:
        CheckpointError: There is no such file, or the download failed.
    """
    url = str(checkpoint)
    parts = urlparse(url)
    if parts.scheme not in ('http', 'https'):
        path = Path(url).expanduser()
        if not path.is_file():
            raise CheckpointError(f"There is no checkpoint file '{path}'.")
        return path
    path = Path(torch.hub.get_dir(), 'checkpoints', Path(parts.path).name)

    def download() -> None:
        if path.is_file():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        print_log(f'Downloading {url} to {path}', logger='current')
        try:
            torch.hub.download_url_to_file(url, str(path), progress=True)
        except (OSError, HTTPException) as error:
            raise CheckpointError(
                f'Could not download {url}\n  ({error}).\n'
                f'Without a network, put the file at\n  {path}\n'
                'or start without pre-trained weights: --cfg-options '
                'model.backbone.init_cfg=None'
            ) from error

    if get_rank() == 0:
        download()
    barrier()
    download()  # on a node that does not share the cache
    return path


class _Inert(dict):
    """Stands for an object of a class that weights do not need."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__()

    def __setstate__(self, state) -> None:
        pass

    def append(self, item) -> None:
        pass

    def extend(self, items) -> None:
        pass


def _inert_getattr(owner, name: str) -> _Inert:
    """In the place of ``getattr``, for the methods in a ``HistoryBuffer``."""
    if owner is not _Inert:
        raise _refusal('getattr')
    return _Inert()


def _refusal(name: str) -> CheckpointError:
    return CheckpointError(
        f"it asks to call or build '{name}', which weights have no need of. "
        'Nothing of it was run. If you trust where the file comes from, load '
        'it there and save the bare state_dict again.'
    )


# What a file of weights may name. Building any of these runs no foreign code.
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
    'pathlib.PosixPath',
    'yacs.config.CfgNode',
}


class _SafeUnpickler(pickle.Unpickler):
    """Resolves known harmless names only, and imports nothing else."""

    def __setattr__(self, name: str, value) -> None:
        # torch.load sets it; its other kind of id, 'module', makes torch read
        # and write source files.
        if name == 'persistent_load':
            load_storage = value

            def value(saved_id):
                if not isinstance(saved_id, tuple) or saved_id[0] not in (
                    'storage',
                    b'storage',
                ):
                    raise _refusal(f'persistent object {saved_id!r:.40}')
                return load_storage(saved_id)

        super().__setattr__(name, value)

    def find_class(self, module: str, name: str):
        full = f'{module}.{name}'
        if full in _INERT:
            return _Inert
        if full in ('builtins.getattr', '__builtin__.getattr'):
            return _inert_getattr
        if full in _SAFE or (
            module == 'torch'
            and isinstance(getattr(torch, name, None), torch.dtype)
        ):
            found = super().find_class(module, name)
            # A pickle can set attributes of a function: of a copy, then.
            return partial(found) if isroutine(found) else found
        raise _refusal(full)


class _SafePickle:
    """The part of the pickle module that ``torch.load`` uses."""

    Unpickler = _SafeUnpickler

    @staticmethod
    def load(file, **kwargs):
        return _SafeUnpickler(file, **kwargs).load()


def read_file(path: str | os.PathLike) -> dict:
    """Read everything in a checkpoint file, running no code from it.

    Objects other than tensors and plain data (such as the yacs ``CfgNode``
    of the released files) come back as empty dicts.

    Args:
        path (str | PathLike): A local file written by ``torch.save``.

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
        (b'<', 'a web page (HTML or XML), not weights: the download went '
         'wrong, or the address is that of a page'),
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
            path,
            map_location='cpu',
            pickle_module=_SafePickle,
            weights_only=False,
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


_load_as_mmengine_does = CheckpointLoader._get_checkpoint_loader('')


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_local(
    filename: str, map_location: str | torch.device | None = None
) -> dict:
    """mmengine's loader of local files, for the authors' files too.

    They hold a ``yacs.config.CfgNode``: where yacs is not installed, mmengine
    cannot read them; :func:`read_file` can.
    """
    try:
        return _load_as_mmengine_does(filename, map_location)
    except ModuleNotFoundError:
        return read_file(filename)


def unwrap(content: Mapping) -> StateDict:
    """Take the weights out of a checkpoint's content.

    Args:
        content (Mapping): Weights, bare or under ``model`` or ``state_dict``,
            with or without the prefix ``module.``.

    Returns:
        dict[str, Tensor]: The weights by name.

    Raises:
        CheckpointError: It contains no tensor.
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
    return _strip(state, 'module.')


def read(
    checkpoint: str | os.PathLike, prefix: str | None = None
) -> StateDict:
    """Read the backbone's weights from any of the forms they come in.

    Args:
        checkpoint (str | PathLike): A local path or URL.
        prefix (str, optional): Take only names that start with this, and cut
            it off. By default ``backbone.``, if the file has such names.

    Returns:
        dict[str, Tensor]: The weights, named as in the file but for the
        prefix.

    Raises:
        CheckpointError: See :func:`fetch`, :func:`read_file`,
            :func:`unwrap`.
    """
    path = fetch(checkpoint)
    content = read_file(path)
    try:
        state = unwrap(content)
    except CheckpointError as error:
        raise CheckpointError(f"'{path}' is of no use. {error}") from None
    if prefix is None:
        return _strip(state, 'backbone.', partly=True)
    prefix = prefix.rstrip('.') + '.'
    if not any(name.startswith(prefix) for name in state):
        raise CheckpointError(
            f"'{path}' has no weights under '{prefix}', but {_some(state)}."
        )
    return _strip(state, prefix, partly=True)


def _strip(state: StateDict, prefix: str, partly: bool = False) -> StateDict:
    matches = [name.startswith(prefix) for name in state]
    if not (any(matches) if partly else all(matches)):
        return state
    return {
        name[len(prefix) :]: value
        for (name, value), match in zip(state.items(), matches)
        if match
    }


# Names -----------------------------------------------------------------------

# From the released names, and those of the release's detection code, to ours.
_RENAMES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r'^patch_embed1\.conv\.0\.', 'patch_embed1.conv1.'),
        (r'^patch_embed1\.conv\.1\.', 'patch_embed1.bn.'),
        (r'^patch_embed1\.conv\.3\.', 'patch_embed1.conv2.'),
        (
            r'\.attn\.local_conv_(\d+)\.',
            lambda m: f'.attn.mhmc.convs.{int(m[1]) - 1}.',
        ),
        (r'\.attn\.proj0\.', '.attn.saa.intra.'),
        (r'\.attn\.bn\.', '.attn.saa.bn.'),
        (r'\.attn\.proj1\.', '.attn.saa.inter.'),
        (r'\.attn\.dw_conv\.', '.attn.local_conv.'),
        (r'\.mlp\.dwconv\.dwconv\.', '.mlp.dwconv.'),
    )
)


def our_name(name: str) -> str:
    """The name in :class:`mmsmt.SMT` of a released parameter or buffer.

    Names that are ours already stay.
    """
    for pattern, replacement in _RENAMES:
        name = pattern.sub(replacement, name)
    return name


def _our_state(state: Mapping[str, Tensor], num_stages: int) -> StateDict:
    """Rename, without the classifier and stages that are not built."""
    renamed = {}
    for name, value in state.items():
        stage = re.match(r'(?:patch_embed|block|norm)(\d)\.', name)
        if name.startswith('head.') or (stage and int(stage[1]) > num_stages):
            continue
        renamed[our_name(name)] = value
    return renamed


def rename_on_load(
    module: nn.Module, state_dict: StateDict, prefix: str, *args
) -> None:
    """Load-state-dict pre-hook of :class:`mmsmt.SMT`: renames in place."""
    mine = {
        name: state_dict.pop(name)
        for name in list(state_dict)
        if name.startswith(prefix)
    }
    renamed = _our_state(_strip(mine, prefix), module.num_stages)
    state_dict.update({prefix + k: v for k, v in renamed.items()})


def classifier_state(state: StateDict) -> StateDict:
    """The names in an mmpretrain classifier of a released file's weights.

    Args:
        state (dict[str, Tensor]): A backbone's and ``head.weight``,
            ``head.bias``.

    Returns:
        dict[str, Tensor]: The same under ``backbone.`` and ``head.fc.``.
    """
    return {
        name.replace('head.', 'head.fc.')
        if name.startswith('head.')
        else f'backbone.{name}': value
        for name, value in state.items()
    }


# Loading ---------------------------------------------------------------------


def load(
    model: nn.Module,
    checkpoint: str | os.PathLike,
    prefix: str | None = None,
) -> int:
    """Load a checkpoint into a backbone, whole or not at all.

    Args:
        model (SMT): The backbone.
        checkpoint (str | PathLike): A local path or URL, of any form that
            :func:`read` takes.
        prefix (str, optional): See :func:`read`.

    Returns:
        int: How many tensors were loaded: all that the model has.

    Raises:
        CheckpointError: The file cannot be read, or its names and shapes are
            not exactly the model's. The model is unchanged then.
    """
    return load_state(model, read(checkpoint, prefix), str(checkpoint))


def load_state(
    model: nn.Module, state: Mapping[str, Tensor], source: str
) -> int:
    """Load weights into a backbone, whole or not at all.

    Args:
        model (SMT): The backbone.
        state (Mapping[str, Tensor]): Released names or ours; a classifier,
            and stages that the model does not build, are left out.
        source (str): Where they are from, for messages.

    Returns:
        int: How many tensors were loaded: all that the model has.

    Raises:
        CheckpointError: Names and shapes are not exactly the model's. The
            model is unchanged then.
    """
    ours = _our_state(state, model.num_stages)
    problems = mismatches(model.state_dict(), ours)
    if problems:
        raise CheckpointError(
            f"'{source}' does not fit SMT (arch {model.arch!r}); nothing was "
            f'loaded.\n{problems}{_hint(model, ours)}'
        )
    model.load_state_dict(ours, strict=False)
    model.loaded_from = f'all {len(ours)} tensors from {source}'
    print_log(f'SMT: loaded {model.loaded_from}', logger='current')
    return len(ours)


def mismatches(
    wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]
) -> str:
    """Describe how two state dicts differ, in names or shapes.

    ``num_batches_tracked``, which old files lack, may be missing.

    Args:
        wanted (Mapping[str, Tensor]): The model's.
        given (Mapping[str, Tensor]): The file's.

    Returns:
        str: A line for each kind of difference, or '' if there is none.
    """
    missing = [
        name
        for name in wanted
        if name not in given and not name.endswith('num_batches_tracked')
    ]
    unexpected = [name for name in given if name not in wanted]
    shapes = [
        f'{name} {tuple(given[name].shape)} for {tuple(wanted[name].shape)}'
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    return ''.join(
        f'  {what}: {_some(names)}\n'
        for what, names in (
            ('missing', missing),
            ('unexpected', unexpected),
            ('of another shape', shapes),
        )
        if names
    )


def _some(names: Iterable[str], limit: int = 4) -> str:
    names = list(names)
    rest = f', ... ({len(names)} in all)' if len(names) > limit else ''
    return ', '.join(names[:limit]) + rest


def identify(state: Mapping[str, Tensor]) -> list[tuple[str, bool]]:
    """Find the archs that weights fit.

    Args:
        state (Mapping[str, Tensor]): Released or our names.

    Returns:
        list[tuple[str, bool]]: Arch and whether with LayerScale.
    """
    from mmsmt.models import SMT

    ours = _our_state(state, num_stages=4)
    stem = ours.get('patch_embed1.conv1.weight')
    if stem is None or stem.ndim != 4:
        return []
    layer_scale = any(name.endswith('.gamma_1') for name in ours)
    return [
        (arch, layer_scale)
        for arch in SMT.ARCHS
        if not mismatches(_weights_of(arch, stem.shape[1], layer_scale), ours)
    ]


@cache
def _weights_of(
    arch: str, in_channels: int, layer_scale: bool
) -> dict[str, Tensor]:
    """The state dict of an arch, without memory (on ``meta``)."""
    from mmsmt.models import SMT

    with torch.device('meta'):
        model = SMT(
            arch,
            in_channels=in_channels,
            layer_scale_init_value=float(layer_scale),
        )
    return model.state_dict()


def _hint(model: nn.Module, ours: StateDict) -> str:
    has = any(name.endswith('.gamma_1') for name in ours)
    wants = any(name.endswith('.gamma_1') for name in model.state_dict())
    hint = ''
    if has and not wants:
        hint = (
            'The file has LayerScale (gamma_1, gamma_2) and the model has '
            'not: set layer_scale_init_value=1e-4.\n'
        )
    elif wants and not has:
        hint = (
            'The model has LayerScale (gamma_1, gamma_2) and the file has '
            'not: leave layer_scale_init_value at 0.\n'
        )
    for arch, _ in identify(ours):
        if arch != model.arch:
            hint += f"The file fits arch '{arch}'.\n"
    return hint


@WEIGHT_INITIALIZERS.register_module()
class Pretrained:
    """Initializer that loads a checkpoint with :func:`load`.

    ``SMT`` puts it in the place of mmengine's ``Pretrained``, which passes
    over what does not fit.

    Args:
        checkpoint (str): A local path or URL.
        prefix (str, optional): See :func:`read`.
        map_location (str, optional): Accepted as in mmengine's; weights are
            always read on the CPU and copied to where the model is.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: str | None = None,
        map_location: str | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.prefix = prefix

    def __call__(self, module: nn.Module) -> None:
        load(module, self.checkpoint, self.prefix)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, f'loaded from {self.checkpoint}')


def imagenet_22k_to_1k() -> list[int]:
    """The place of each ImageNet-1K class among the 21,841 of ImageNet-22K.

    Both in their usual order; the 22K classes are those of the fall 2011
    release, as in the released weights.
    """
    path = Path(__file__).parent / 'datasets' / 'imagenet22k_to_1k.txt'
    return [int(index) for index in path.read_text().split()]


@WEIGHT_INITIALIZERS.register_module()
class PretrainedClassifier:
    """Initializer of a linear head from the classifier of a released file.

    An ImageNet-1K head takes its classes' rows of an ImageNet-22K classifier.

    Args:
        checkpoint (str): A local path or URL.
    """

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint

    def __call__(self, module: nn.Module) -> None:
        """Load into ``module.fc``.

        Raises:
            CheckpointError: The file has no classifier, or one of another
                number of classes or channels.
        """
        state = read(self.checkpoint)
        given = {
            name: state[f'head.{name}']
            for name in ('weight', 'bias')
            if f'head.{name}' in state
        }
        if (
            len(given) == 2
            and len(given['weight']) == 21841
            and module.fc.out_features == 1000
        ):
            rows = imagenet_22k_to_1k()
            given = {name: value[rows] for name, value in given.items()}
        problems = mismatches(module.fc.state_dict(), given)
        if problems:
            raise CheckpointError(
                f"The classifier in '{self.checkpoint}' does not fit the "
                f'head.\n{problems}To start with a new one: --cfg-options '
                'model.head.init_cfg=None'
            )
        module.fc.load_state_dict(given)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, f'loaded from {self.checkpoint}')


def strict_init_cfg(
    init_cfg: dict | list[dict] | None,
) -> dict | list[dict] | None:
    """Put :class:`Pretrained` in the place of mmengine's in an ``init_cfg``.

    In a list it comes last, so that it wins.
    """
    if init_cfg is None:
        return None
    cfgs = [init_cfg] if isinstance(init_cfg, dict) else init_cfg
    cfgs = [dict(cfg) for cfg in cfgs]
    for cfg in cfgs:
        name = getattr(cfg.get('type'), '__name__', cfg.get('type'))
        if str(name).split('.')[-1] in ('Pretrained', 'PretrainedInit'):
            cfg['type'] = 'mmsmt.Pretrained'
    cfgs.sort(key=lambda cfg: cfg.get('type') == 'mmsmt.Pretrained')
    return cfgs[0] if isinstance(init_cfg, dict) else cfgs
