"""Send a run's values to an experiment tracker besides its own log."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from .config import LaunchError

TRACKERS = {
    'tensorboard': 'TensorboardVisBackend',
    'wandb': 'WandbVisBackend',
    'mlflow': 'MLflowVisBackend',
}
"""mmengine's backends by name of the package."""


def add_trackers(cfg: Config, names: Sequence[str]) -> None:
    """Add trackers to a config's visualizer.

    They write into the work dir: W&B offline (``WANDB_MODE=online`` sends at
    once, ``wandb sync`` later), MLflow into ``mlflow.db`` unless
    ``MLFLOW_TRACKING_URI`` names a server.

    Args:
        cfg (Config): The config, changed in place.
        names (Sequence[str]): Of :data:`TRACKERS`.

    Raises:
        LaunchError: A package is not installed, or there is no visualizer.
    """
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise LaunchError(
            f'--tracker {" ".join(missing)} needs: pip install '
            f'{" ".join(missing)}'
        )
    if names and not cfg.get('visualizer'):
        raise LaunchError('--tracker needs a visualizer in the config.')
    folder = Path(cfg.work_dir).resolve()
    project = folder.name
    settings: dict[str, dict[str, Any]] = {
        'wandb': dict(
            init_kwargs=dict(
                project=project, mode=os.environ.get('WANDB_MODE', 'offline')
            )
        ),
        'mlflow': dict(
            exp_name=project,
            artifact_location=f'file://{folder}/mlflow',
            tracking_uri=os.environ.get(
                'MLFLOW_TRACKING_URI', f'sqlite:///{folder}/mlflow.db'
            ),
        ),
    }
    backends = list(cfg.visualizer.get('vis_backends') or []) if names else []
    present = {backend.get('type') for backend in backends}
    for name in names:
        if TRACKERS[name] not in present:
            backend = dict(type=TRACKERS[name], **settings.get(name, {}))
            backends.append(ConfigDict(backend))
    if names:
        cfg.visualizer.vis_backends = backends
