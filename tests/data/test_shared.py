"""Images that are trained on and validated with are found."""

import shutil

import pytest
from support.coco_files import make_config, write_files

from mmsmt.data.check import check_config

pytestmark = pytest.mark.one_stack


def test_images_in_training_and_validation(tmp_path):
    root = write_files(tmp_path)
    shutil.copy(root / 'train/1.jpg', root / 'val/2.jpg')
    (root / 'val/3.jpg').unlink()
    (root / 'val/3.jpg').symlink_to(root / 'train/0.jpg')
    other = bytearray((root / 'train/4.jpg').read_bytes())
    other[700] ^= 1  # of one size, and not a copy
    (root / 'val/0.jpg').write_bytes(other)
    cfg = make_config(root)
    findings, _ = check_config(cfg)
    (warning,) = findings
    assert not warning.error and 'val_dataloader' in str(warning)
    assert '2 of 4 images are among those of train_dataloader' in str(warning)
    for name in '23':
        assert f'val/{name}.jpg' in str(warning)
