"""The commands of "Your own data", from each format to predictions."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from support import shapes

from mmsmt.data.convert.config import MODELS

ROOT = Path(__file__).parents[2]
MAKERS = {
    'yolo': lambda root: shapes.write_yolo(root, 6, 3),
    'voc': lambda root: shapes.write_voc(root, 6, 3),
    'coco': lambda root: shapes.write_coco(root, 9),
    'masks': lambda root: shapes.write_masks(root, 6, 3),
    'folders': lambda root: shapes.write_folders(root, 3),
}
# What makes runs short, and keeps predictions of an untrained detector.
FEW = ['model.test_cfg.score_thr=0', 'model.test_cfg.max_per_img=10']
SHORT = {
    'voc': FEW,
    'yolo': FEW,
    'coco': [x.replace('test_cfg.', 'test_cfg.rcnn.') for x in FEW]
    + ['model.test_cfg.rpn.max_per_img=30'],
}
LOADERS = [
    f'{split}_dataloader.{setting}'
    for split in ('train', 'val', 'test')
    for setting in ('num_workers=0', 'persistent_workers=False')
]


def commands(page: str) -> list[str]:
    """The commands on ``photos``, without comments."""
    text = (ROOT / page).read_text()
    (block,) = (
        block
        for block in re.findall(r'```bash\n(.*?)```', text, re.S)
        if block.startswith('mmsmt data photos')
    )
    return [line.split('#')[0].strip() for line in block.strip().split('\n')]


def test_readme_is_a_part_of_the_page():
    lines = iter(commands('docs/own_data.md'))
    assert all(line in lines for line in commands('README.md'))
    page = (ROOT / 'docs/own_data.md').read_text()
    assert set(MODELS['detection']) == {'atss', 'retinanet'}
    assert len(page) > 3000


@pytest.mark.slow
@pytest.mark.one_stack
@pytest.mark.parametrize('name', MAKERS)
def test_from_a_folder_to_predictions(fork, tmp_path, name):
    (tmp_path / 'photos').mkdir()
    MAKERS[name](tmp_path / 'photos')
    (tmp_path / 'new_photos').mkdir()
    image = next(
        path
        for path in (tmp_path / 'photos').rglob('*')
        if path.suffix in ('.jpg', '.png') and 'mask' not in str(path)
    )
    shutil.copy(image, tmp_path / 'new_photos')
    (tmp_path / 'bin').mkdir()
    command = tmp_path / 'bin' / 'mmsmt'
    command.write_text(f'#!/bin/sh\nexec {fork} -m mmsmt "$@"\n')
    command.chmod(0o755)
    loop = (
        ['train_cfg.max_iters=2', 'train_cfg.val_interval=2']
        if name == 'masks'
        else ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1']
    )
    interval = loop[1].split('=')[1]
    settings = [*SHORT.get(name, []), *LOADERS]
    options = {
        'data': ['--from-scratch'],
        'train': ['--cfg-options', *settings, *loop]
        + [f'default_hooks.checkpoint.interval={interval}']
        + ['default_hooks.checkpoint.save_optimizer=False'],
        'test': ['--cfg-options', *settings],
        'predict': ['--cfg-options', *settings],
    }
    for line in commands('docs/own_data.md'):
        verb = line.split()[1]
        if verb == 'rehearse':  # its parts run in other tests
            continue
        result = subprocess.run(
            f'{line} {shlex.join(options.get(verb, []))}',
            shell=True,
            cwd=tmp_path,
            env={
                **os.environ,
                'PATH': f'{tmp_path}/bin:{os.environ["PATH"]}',
                'PYTHONPATH': str(ROOT),
                'OMP_NUM_THREADS': '1',
                'CUDA_VISIBLE_DEVICES': '',
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert result.returncode == 0, result.stdout[-3000:]
        if verb == 'data':  # smaller images, for a quick test
            path = tmp_path / 'birds' / 'config.py'
            text = path.read_text()
            path.write_text(re.sub(r'side = \d+', 'side = 64', text))
    assert (tmp_path / 'found/pictures' / image.name).is_file()
    pictures = list((tmp_path / 'pictures').rglob('*'))
    assert any(path.suffix in ('.png', '.jpg') for path in pictures)
