"""Find checkpoints: released weights, local files, the download cache."""

import hashlib
import os
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, get_rank
from mmengine.logging import print_log

from mmsmt.errors import UserError

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


class CheckpointError(UserError):
    """Error for a checkpoint that is unreadable or does not fit the model."""


def _origin_of(path: Path) -> Path:
    """Return the file that says from which URL a cached file is."""
    return path.with_name(f'.{path.name}.url')


def _cached(url: str, name: str) -> Path:
    """Return the cached file of a URL: its name, which others may have too."""
    path = Path(torch.hub.get_dir(), 'checkpoints', name)
    origin = _origin_of(path)
    if origin.is_file() and origin.read_text('utf-8') != url:
        digest = hashlib.sha256(url.encode()).hexdigest()[:8]
        path = path.with_name(f'{path.stem}-{digest}{path.suffix}')
    return path


def fetch_checkpoint(checkpoint: str | os.PathLike) -> Path:
    """Find a checkpoint on disk, downloading a URL into torch's cache.

    The cache is the one that mmengine uses too:
    ``$TORCH_HOME/hub/checkpoints``, or ``~/.cache/torch/hub/checkpoints``.
    Files of one name from two URLs are kept apart.

    Args:
        checkpoint (str | PathLike): A local path or an http(s) URL.

    Returns:
        Path: The local file.

    Raises:
        CheckpointError: The file is missing, or the download failed.
    """
    url = str(checkpoint)
    parts = urlparse(url)
    if parts.scheme not in ('http', 'https'):
        path = Path(url).expanduser()
        if not path.is_file():
            raise CheckpointError(f"There is no checkpoint file '{path}'.")
        return path
    path = _cached(url, Path(parts.path).name)

    def download() -> None:
        if path.is_file():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        print_log(f'Downloading {url} to {path}', logger='current')
        try:
            torch.hub.download_url_to_file(url, str(path), progress=True)
            _origin_of(path).write_text(url, 'utf-8')
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
