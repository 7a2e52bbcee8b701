"""Labels of ImageNet-22K follow the released weights."""

import json
from pathlib import Path

import pytest
from mmengine.config import ConfigDict

from mmsmt.data.check import find_kind
from mmsmt.data.files import DataError
from mmsmt.data.findings import Findings
from mmsmt.data.folders import check_folders
from mmsmt.data.imagenet22k import SYNSETS, ImageNet22K
from mmsmt.weights import imagenet_22k_to_1k

CHEST, TEDDY = 'n03013580', 'n04399382'


def test_order_of_the_release():
    """Its map finds ImageNet-1K's classes, but for one that 22K lacks."""
    ours = Path(__file__).with_name('imagenet1k_synsets.txt')
    wanted = ours.read_text().split()
    got = [SYNSETS[label] for label in imagenet_22k_to_1k()]
    different = [(a, b) for a, b in zip(wanted, got, strict=True) if a != b]
    assert different == [(TEDDY, CHEST)] and TEDDY not in SYNSETS
    # By the folders in their order, the map would miss 282.
    folders = sorted(SYNSETS)
    by_folder = [folders[label] for label in imagenet_22k_to_1k()]
    assert sum(map(str.__eq__, wanted, by_folder)) == 718
    assert sum(map(str.__ne__, SYNSETS, folders)) == 12636
    assert len(set(SYNSETS)) == 21841
    assert (SYNSETS[9205], SYNSETS[15027]) == ('n15102455', 'n15102894')


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Write all folders, an image in the first and the two moved ones."""
    root = tmp_path_factory.mktemp('imagenet22k')
    for name in SYNSETS:
        (root / name).mkdir()
    for name in ('n00004475', 'n15102455', 'n15102894'):
        (root / name / f'{name}_1.JPEG').touch()
    return root


def test_folders(folders):
    dataset = ImageNet22K(data_root=str(folders))
    labels = {
        Path(info['img_path']).parent.name: info['gt_label']
        for info in map(dataset.get_data_info, range(len(dataset)))
    }
    assert labels == dict(n00004475=0, n15102455=9205, n15102894=15027)
    assert dataset.CLASSES == SYNSETS


def test_check_reads_them(folders, monkeypatch):
    monkeypatch.setattr('mmsmt.data.folders._check_files', lambda *args: None)
    settings = dict(type='mmsmt.ImageNet22K', data_root=str(folders))
    findings = Findings()
    summary, classes = check_folders('train', ConfigDict(settings), findings)
    assert classes == SYNSETS and not findings.errors
    assert {k: v for k, v in summary.objects.items() if v} == dict(
        n00004475=1, n15102455=1, n15102894=1
    )
    assert find_kind(ConfigDict(settings)) == 'ImageNet22K'
    settings['data_root'] = str(folders / 'n00004475')
    assert check_folders('train', ConfigDict(settings), findings) is None
    assert 'not ImageNet-22K of fall 2011' in str(findings.errors)


def test_other_folders(folders):
    """One more, one fewer: every label after it would be wrong."""
    (folders / TEDDY).mkdir()
    (folders / SYNSETS[7]).rmdir()
    try:
        with pytest.raises(DataError) as error:
            ImageNet22K(data_root=str(folders))
    finally:
        (folders / TEDDY).rmdir()
        (folders / SYNSETS[7]).mkdir()
    text = str(error.value)
    assert f'1 are missing ({SYNSETS[7]}), 1 are others ({TEDDY})' in text


@pytest.mark.parametrize('form', ['json', 'text'])
def test_lists(tmp_path, form):
    """Swin's JSON and mmpretrain's lines: labels agree with the folders."""

    def load(entries):
        text = json.dumps(entries)
        if form == 'text':
            text = ''.join(f'{path} {label}\n' for path, label in entries)
        (tmp_path / 'map.txt').write_text(text)
        return ImageNet22K(data_root=str(tmp_path), ann_file='map.txt')

    right = [
        ['fall11_whole/n00004475/a b.JPEG', 0],
        ['fall11_whole/n15102894/c.JPEG', 15027],
    ]
    dataset = load(right)
    info = dataset.get_data_info(1)
    assert info['gt_label'] == 15027
    assert info['img_path'] == f'{tmp_path}/fall11_whole/n15102894/c.JPEG'
    assert dataset.get_data_info(0)['img_path'].endswith('/a b.JPEG')
    sorted_label = sorted(SYNSETS).index('n15102894')
    with pytest.raises(DataError, match=r'image 2.*21840.*label 15027\.'):
        load([right[0], [right[1][0], sorted_label]])
    with pytest.raises(DataError, match='no synset of ImageNet-22K'):
        load([['train/cats/1.JPEG', 0]])
    with pytest.raises(DataError, match='is no list of images'):
        load([['n00004475/1.JPEG', 'cat']])
