"""Check the checkpoint of a run before mmengine loads it."""

from urllib.parse import urlparse

from mmsmt.weights import fetch_checkpoint, read_checkpoint

from .config import LaunchError
from .ranks import launched_rank


def read_safely(checkpoint: str) -> str:
    """Check a checkpoint before mmengine loads it, which may run its code.

    Args:
        checkpoint (str): A local path or URL.

    Returns:
        str: The local file.

    Raises:
        CheckpointError: The file is damaged, or a pickle that would call a
            function.
        LaunchError: The address is of a kind that only mmengine can read.
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
