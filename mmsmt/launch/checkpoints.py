"""Read the checkpoint of a run before mmengine does."""

from urllib.parse import urlparse

from mmsmt.weights import fetch_checkpoint, read_checkpoint

from .config import LaunchError
from .processes import launched_rank


def read_safely(checkpoint: str) -> str:
    """Read a checkpoint once before mmengine does, which may run its code.

    Returns:
        str: The local file.

    Raises:
        CheckpointError: It is damaged, or a pickle that would call a function.
        LaunchError: It is at an address that only mmengine can read.
    """
    if '://' in checkpoint and urlparse(checkpoint).scheme not in (
        'http',
        'https',
    ):
        raise LaunchError(
            f"'{checkpoint}' cannot be checked before it is loaded: fetch it "
            'and give the local file.'
        )
    path = fetch_checkpoint(checkpoint)
    if launched_rank() == 0:
        read_checkpoint(path)
    return str(path)
