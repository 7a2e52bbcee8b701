"""Files that a test writes."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import load
from PIL import Image
from support.trained import CLASSES, write_model

from mmsmt.launch.outputs import DumpMaps, drop_short_palettes


@pytest.fixture
def classifier(tmp_path):
    """A run's folder, and images whose names repeat in folders."""
    config, checkpoint = write_model('classification', tmp_path)
    generator = np.random.default_rng(0)
    for name in CLASSES['classification']:
        folder = tmp_path / 'data/val' / name
        folder.mkdir(parents=True)
        for number in (1, 2):
            pixels = generator.integers(0, 255, (64, 64, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f'{number}.png')
    cfg = Config.fromfile(config)
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.test_dataloader.dataset.data_root = str(tmp_path / 'data')
    cfg.dump(config)
    run = tmp_path / 'run'
    (run / '20260101_000000/vis_data').mkdir(parents=True)
    (run / '20260101_000000/vis_data/config.py').touch()
    return config, checkpoint.rename(run / 'best.pth')


def test_a_classifier(classifier, tool_of, tmp_path):
    """Pictures in the folders of their images; the run's own work dir."""
    config, checkpoint = classifier
    shown, out = tmp_path / 'shown', tmp_path / 'all.pkl'
    command = ['test', config, checkpoint, '--no-check', '--out', out]
    status, output = tool_of(*command, '--show-dir', shown)
    assert status == 0, output
    pictures = [p.relative_to(shown) for p in shown.rglob('*.png')]
    assert len(pictures) == 14
    assert {p.parent.name for p in pictures} == set(CLASSES['classification'])
    assert (checkpoint.parent / 'predictions/test.json').is_file()
    assert not (tmp_path / 'work_dirs').exists()
    assert len(load(out)) == 14
    status, output = tool_of(*command)
    assert status == 2 and f"--out '{out}' exists already" in output


def test_class_maps_without_logits(tmp_path):
    path = tmp_path / 'all.pkl'
    dump = DumpMaps(str(path))
    samples = [
        dict(
            seg_logits=dict(data=torch.rand(5, 8, 8)),
            pred_sem_seg=dict(data=torch.full((1, 8, 8), number)),
            gt_sem_seg=dict(data=torch.full((1, 8, 8), 255)),
            img_path='a.png',
        )
        for number in (4, 300)
    ]
    dump.process(None, samples)
    assert 'seg_logits' in samples[0]  # other metrics take it
    assert samples[0]['pred_sem_seg']['data'].dtype == torch.int64
    dump.evaluate(2)
    first, second = load(path)
    assert sorted(first) == ['gt_sem_seg', 'img_path', 'pred_sem_seg']
    assert first['pred_sem_seg']['data'].dtype == torch.uint8
    assert first['gt_sem_seg']['data'].unique().tolist() == [255]
    assert second['pred_sem_seg']['data'].unique().tolist() == [300]


@pytest.mark.parametrize('palette', [[(1, 2, 3)], 'coco', [[1, 2, 3]] * 2])
def test_palettes(palette, capsys):
    """mmdet fails at the first object without a colour."""
    meta = dict(classes=('a', 'b'), palette=palette)
    cfg = Config(
        dict(test_dataloader=dict(dataset=dict(metainfo=meta, ann_file='')))
    )
    drop_short_palettes(cfg)
    kept = cfg.test_dataloader.dataset.metainfo.get('palette')
    if len(palette) == 2:
        assert kept == [(1, 2, 3)] * 2
    else:
        assert kept is None
        assert 'is no list of 2 colours' in capsys.readouterr().out
