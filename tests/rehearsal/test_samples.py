"""A rehearsal takes a sample of a config's own data."""

import json

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image
from support import shapes

from mmsmt.data.convert.config import write_config
from mmsmt.data.convert.reading import read_folder
from mmsmt.data.convert.recipe import fit_recipe
from mmsmt.data.convert.splitting import split_pictures
from mmsmt.data.convert.writing import write_annotations
from mmsmt.rehearsal.samples import (
    choose,
    choose_samples,
    has_data,
    use_samples,
)
from mmsmt.rehearsal.stages import Rehearsal

pytestmark = pytest.mark.one_stack


@pytest.fixture(params=['coco', 'masks', 'folders'])
def cfg(request, tmp_path):
    """A config for each kind of data, with one large and one small image."""
    root, out = tmp_path / 'photos', tmp_path / 'out'
    root.mkdir()
    out.mkdir()
    make = {
        'coco': lambda: shapes.write_coco(root, 30),
        'masks': lambda: shapes.write_masks(root, 24, 6),
        'folders': lambda: shapes.write_folders(root, 6),
    }
    make[request.param]()
    collection = read_folder(root)
    split_pictures(collection)
    train = collection.splits['train']
    if request.param == 'folders':
        for picture, size in ((train[3], 200), (train[5], 20)):
            Image.new('RGB', (size, size)).save(picture.path)
    write_annotations(collection, root, out)
    model = dict(coco='mask_rcnn', masks='upernet', folders='classifier')
    path = write_config(
        *(collection, fit_recipe(collection, 't'), root, out),
        *(model[request.param], 't'),
    )
    return Config.fromfile(path)


def test_all_classes_and_extreme_sizes(cfg):
    assert has_data(cfg)
    samples, total = choose_samples(cfg, 2)
    text = use_samples(cfg, samples)
    init_default_scope(cfg.default_scope)
    settings = cfg.train_dataloader.dataset.copy()
    settings.pipeline = []
    chosen = DATASETS.build(settings)
    batch = cfg.train_dataloader.batch_size
    assert len(chosen) % batch == 0 or len(chosen) == total
    assert 2 * batch <= len(chosen) < total or len(chosen) == total
    assert text.startswith(f'{len(chosen)} train, ')
    whole = cfg.copy()
    dataset = dict(whole.train_dataloader.dataset, indices=None)
    repeated = dict(type='RepeatDataset', times=3, dataset=dataset)
    whole.train_dataloader = dict(cfg.train_dataloader, dataset=repeated)
    assert choose_samples(Config(whole.to_dict()), 2)[1] == 3 * total
    infos = [chosen.get_data_info(i) for i in range(len(chosen))]
    if 'instances' in infos[0]:
        found = {x['bbox_label'] for info in infos for x in info['instances']}
        assert found == {0, 1, 2}
    if 'gt_label' in infos[0]:
        assert {info['gt_label'] for info in infos} == {0, 1, 2}
        sides = set()
        for info in infos:
            with Image.open(info['img_path']) as image:
                sides.add(image.width)
        assert {20, 200} <= sides


def test_the_data_is_checked_first(cfg, tmp_path):
    """A broken data set fails its first stage."""
    if cfg.default_scope != 'mmdet':
        pytest.skip('one kind of data is enough')
    path = tmp_path / 'out/annotations/train.json'
    content = json.loads(path.read_text())
    content['annotations'][0]['image_id'] = 999
    path.write_text(json.dumps(content))
    rehearsal = Rehearsal(cfg, tmp_path / 'rehearsal', 0.25, 3)
    assert 'a sample of the data' in rehearsal.differences()
    assert not rehearsal.run()
    (stage,) = rehearsal.stages
    assert not stage.ok
    assert '1 annotations name an image that is absent' in stage.result


def test_digits_where_data_is_missing(cfg):
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.data_root = '/nowhere/'
        dataset.ann_file = 'x.json'
    assert not has_data(cfg)


def test_choice():
    """Rare classes first; the rest is spread over the images."""
    sizes = dict.fromkeys(range(100), 5) | {7: 1, 8: 9}
    labels = {i: {0} for i in range(100)} | {50: {1}, 51: {1, 2}}
    chosen = choose(sizes, labels, 4)
    assert {7, 8, 51} <= set(chosen) and len(chosen) == 4
    assert len(choose(sizes, labels, 30)) == 30
    assert choose({0: 1}, {}, 8) == [0]
