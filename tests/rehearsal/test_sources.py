"""Digits and random weights replace data and weights."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from support.configs import load

from mmsmt.data.files import DataError
from mmsmt.rehearsal import sources

pytestmark = pytest.mark.one_stack


@pytest.mark.parametrize('images', ['{}/pictures/', 'all/', ''])
@pytest.mark.parametrize('classes', [('apple', 'pear'), ('cat', 'dog'), 'cat'])
def test_files_and_classes_of_ones_own(tmp_path, images, classes):
    """mmdet finds them in the digits, every image with something in it."""
    from mmdet.registry import DATASETS

    cfg = load('retinanet_smt_s_3x')
    for part, split in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        cfg[f'{part}_dataloader'].dataset.update(
            data_root='data/pets',
            ann_file=f'{split}/labels.json',
            data_prefix=dict(img=images.format(split)),
            metainfo=dict(classes=classes),
            pipeline=[],
        )
    cfg.train_dataloader.batch_size = 1
    sources.use_digits(cfg, tmp_path, 2, 0.2)
    for part, number in (('train', 2), ('val', 4)):
        dataset = DATASETS.build(cfg[f'{part}_dataloader'].dataset)
        assert len(dataset) == number
        for i in range(number):
            info = dataset.get_data_info(i)
            assert Path(info['img_path']).is_file()
            assert part in str(Path(info['img_path']).resolve().parent)
            labels = {item['bbox_label'] for item in info['instances']}
            assert labels and labels <= {0, 1}


def test_other_folders_are_said_to_be(tmp_path):
    cfg = load('upernet_smt_s_160k')
    cfg.train_dataloader.dataset.data_prefix.img_path = 'img/train'
    with pytest.raises(DataError, match="usual folders only.*img/train'"):
        sources.use_digits(cfg, tmp_path, 2, 0.1)


def test_paths_of_ones_own_are_left_alone(tmp_path):
    """Absolute paths would lead out of the rehearsal."""
    cfg = load('retinanet_smt_s_3x')
    mine = tmp_path / 'mine.json'
    cfg.train_dataloader.dataset.ann_file = str(mine)
    with pytest.raises(DataError, match='must be relative'):
        sources.use_digits(cfg, tmp_path / 'digits', 2, 0.1)
    assert not mine.exists()


def test_imagenet_22k_without_lists(tmp_path):
    """Ten folders would be refused as incomplete in the first stage."""
    cfg = load('smt_l_in22k')
    cfg.train_dataloader.dataset.ann_file = ''
    with pytest.raises(DataError, match='Rehearse smt_l_in22k'):
        sources.use_digits(cfg, tmp_path, 2, 0.1)


def test_data_without_digits():
    cfg = load('retinanet_smt_s_3x')
    cfg.train_dataloader.dataset.type = 'VOCDataset'
    with pytest.raises(DataError, match="layout of 'VOCDataset'"):
        sources.find_source(cfg)


@pytest.mark.parametrize('name', ['mine.pth', 'torchvision://resnet50'])
def test_other_weights_are_left_to_the_run(tmp_path, name):
    cfg = load('mask_rcnn_smt_t_1x')
    cfg.model.backbone.init_cfg.checkpoint = name
    assert sources.use_local_weights(cfg, tmp_path) == []
    assert cfg.model.backbone.init_cfg.checkpoint == name


def test_stand_in_weights(tmp_path, monkeypatch):
    """Without a network, files that load as the released ones would."""

    monkeypatch.setenv('TORCH_HOME', str(tmp_path))

    def unreachable(*args, **kwargs):
        raise OSError('no route')

    monkeypatch.setattr(torch.hub, 'download_url_to_file', unreachable)
    cfg = load('smt_l_in1k_ft_224')
    (line,) = sources.use_local_weights(cfg, tmp_path / 'weights')
    assert line == 'random ones for smt_large_22k.pth (no route)'
    init_default_scope('mmpretrain')
    model = MODELS.build(cfg.model)
    model.init_weights()
    assert model.backbone.loaded_from.endswith('smt_large_22k.pth')
