"""Exported files compute what the models predict, for any image."""

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.configs import build, load
from support.small import ARCH

from mmsmt.data import digits
from mmsmt.data.configured import TASKS
from mmsmt.export.formats import write_model
from mmsmt.export.pooling import MatrixPool
from mmsmt.export.proof import METRICS, compare_objects
from mmsmt.export.suppression import suppress
from mmsmt.export.whole import Whole
from mmsmt.runtimes import ExportedModel
from mmsmt.runtimes.description import Description, ExportError

onnxruntime = pytest.importorskip('onnxruntime')
TORCH = tuple(int(v) for v in torch.__version__.split('.')[:2])
WIDTHS = list(ARCH['embed_dims'])
NAMES = [
    'smt_t_in1k',
    'upernet_smt_t_160k',
    pytest.param('retinanet_smt_s_3x', marks=pytest.mark.one_stack),
    'atss_smt_s_3x',
    'mask_rcnn_smt_t_1x',
    pytest.param('cascade_mask_rcnn_smt_s_3x', marks=pytest.mark.one_stack),
    pytest.param('sparse_rcnn_smt_s_3x', marks=pytest.mark.one_stack),
    'dino_smt_s_1x',
]
LAYOUTS = {
    'smt_t_in1k': 'imagenet',
    'upernet_smt_t_160k': 'ade20k',
    'mask_rcnn_smt_t_1x': 'coco',
}
SIZES = [(2, 100, 130), (1, 192, 96)]
"""Others than the exporter's example, and no multiples of 32."""


def shrink(name: str):
    """Return a config whose model is small."""
    cfg = load(name)
    model = cfg.model
    model.backbone.update(arch=ARCH)
    if isinstance((model.get('neck') or {}).get('in_channels'), list):
        model.neck.in_channels = WIDTHS[-len(model.neck.in_channels) :]
    if cfg.default_scope == 'mmpretrain':
        model.head.in_channels = WIDTHS[-1]
    if cfg.default_scope == 'mmseg':
        model.decode_head.update(in_channels=WIDTHS, channels=32)
        model.auxiliary_head.update(in_channels=WIDTHS[2], channels=32)
    if name.startswith('dino'):
        model.num_queries = model.test_cfg.max_per_img = 20
    if name.startswith(('atss', 'retina')):
        # More than there are: their order is open where scores are equal, as
        # they are in the padding.
        model.test_cfg.nms_pre = 10**5
    if name.startswith('sparse'):
        model.rpn_head.num_proposals = model.test_cfg.rcnn.max_per_img = 10
        head = model.roi_head  # six stages amplify what rounding does
        head.update(
            num_stages=2,
            stage_loss_weights=[1, 1],
            bbox_head=head.bbox_head[:2],
        )
        model.train_cfg.rcnn = model.train_cfg.rcnn[:2]
    if 'mask_rcnn' in name:
        model.test_cfg.rpn.max_per_img = 50
        model.test_cfg.rcnn.max_per_img = 20
        heads = model.roi_head.bbox_head
        for head in heads if isinstance(heads, list) else [heads]:
            head.fc_out_channels = 64
        model.roi_head.mask_head.update(conv_out_channels=16, num_convs=1)
    return cfg


def make(name: str):
    """Return a small config and its model, which is sure of some classes."""
    cfg = shrink(name)
    model = build(cfg).eval()
    model.init_weights()
    torch.manual_seed(1)
    for key, value in model.named_parameters():
        # Not in regions of interest: their features are small.
        if any(x in key for x in ('fc_cls', 'retina_cls', 'atss_cls')):
            scale = 0.4 if value.dim() > 1 else 0
            value.data.normal_().mul_(scale).sub_(0 if scale else 2)
    return cfg, model


def images(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    values = torch.randint(0, 256, shape, generator=generator)
    return values.to(torch.uint8)


def data_for(scope: str, x: torch.Tensor) -> dict:
    """Return what the host's loader gives."""
    size = tuple(x.shape[-2:])
    meta = dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
    if scope == 'mmdet':
        from mmdet.structures import DetDataSample as Sample
    elif scope == 'mmseg':
        from mmseg.structures import SegDataSample as Sample
    else:
        from mmpretrain.structures import DataSample as Sample
    inputs = x.flip(1)
    return dict(
        inputs=inputs if scope == 'mmpretrain' else list(inputs),
        data_samples=[Sample(metainfo=dict(meta)) for _ in x],
    )


def assert_same(scope: str, ones: list, others: list) -> None:
    """Compare the predictions of a model and a file."""
    assert len(ones) == len(others)
    for one, other in zip(ones, others):
        if scope == 'mmpretrain':
            assert (one.pred_score - other.pred_score).abs().max() < 1e-6
            assert one.pred_label == other.pred_label
        elif scope == 'mmseg':
            a, b = one.seg_logits.data, other.seg_logits.data
            assert (a - b).abs().max() < 1e-4 * a.abs().max()
            assert (one.pred_sem_seg.data != other.pred_sem_seg.data).sum() < 9
        else:
            errors = compare_objects(one, other)
            assert len(errors) >= 5  # there is something to compare
            assert np.mean(np.array(errors) < 1e-4) > 0.95, errors
            if 'masks' in one.pred_instances:
                a, b = one.pred_instances.masks, other.pred_instances.masks
                assert a.shape[1:] == b.shape[1:] and a.any() and b.any()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        yield
    logging.disable(logging.NOTSET)


def describe(whole: Whole, **settings) -> Description:
    classes = tuple(map(str, range(80)))
    plan = whole.plan['divisor']
    return Description(
        whole.task, classes, whole.outputs, divisor=plan, **settings
    )


@pytest.mark.parametrize('name', NAMES)
def test_onnx(name, tmp_path):
    """One file for all sizes and batches, whatever it finds."""
    cfg, model = make(name)
    whole = Whole(model, TASKS[cfg.default_scope])
    path = tmp_path / 'model.onnx'
    with quiet():
        write_model(whole, 'onnx', path, describe(whole))
    exported = ExportedModel(
        path, align_corners=getattr(model, 'align_corners', False)
    )
    for shape in SIZES:
        x = images(shape[0], 3, *shape[1:])
        with torch.no_grad():
            ones = model.test_step(data_for(cfg.default_scope, x))
        others = exported.test_step(data_for(cfg.default_scope, x))
        assert_same(cfg.default_scope, ones, others)
    names = [output.name for output in exported.runtime._session.get_outputs()]
    assert tuple(names) == whole.outputs
    # Both at once give the same as one after the other.
    x = images(2, 3, 64, 96).numpy()
    both = exported.runtime.run(x)
    for i in range(2):
        for one, whole_batch in zip(exported.runtime.run(x[i : i + 1]), both):
            if whole_batch.dtype == np.float32:
                np.testing.assert_allclose(
                    one[0], whole_batch[i], rtol=1e-3, atol=1e-3
                )


def test_nothing_is_found(tmp_path):
    """No proposal is an object, nor has its level any."""
    cfg = shrink('mask_rcnn_smt_t_1x')
    cfg.model.test_cfg.rcnn.score_thr = 0.9
    model = build(cfg).eval()
    whole = Whole(model, 'detection')
    path = tmp_path / 'model.onnx'
    with quiet():
        write_model(whole, 'onnx', path, describe(whole))
    x = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    found = ExportedModel(path).test_step(data_for('mmdet', x))[0]
    assert len(found.pred_instances) == 0
    assert found.pred_instances.masks.shape == (0, 64, 64)
    outputs = ExportedModel(path).runtime.run(x.numpy())
    assert (outputs[2] == -1).all() and (outputs[1] == 0).all()


@pytest.mark.parametrize('size', [(1, 1), (2, 3), (6, 6), (7, 5)])
def test_pooling(size):
    x = torch.randn(2, 3, 13, 17)
    reference = torch.nn.functional.adaptive_avg_pool2d(x, size)
    torch.testing.assert_close(MatrixPool(size)(x), reference)


def test_suppression():
    """By group; what is no candidate stays out."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10]])
    scores = torch.tensor([[0.5, 0.9, 0.8], [0.5, 0.0, 0.0]])
    groups = torch.tensor([[0, 0, 1], [0, 0, 0]])
    kept = suppress(
        *(boxes.expand(2, -1, -1), scores, groups, 0.5),
        torch.tensor([20.0, 20.0]),
    )
    assert kept.tolist() == [
        pytest.approx([0, 0.9, 0.8]),
        pytest.approx([0.5, 0, 0]),
    ]


@pytest.mark.skipif(
    TORCH < (2, 4), reason='this torch cannot save what it exports'
)
@pytest.mark.parametrize('name', ['smt_t_in1k', 'retinanet_smt_s_3x'])
def test_torch_export(name, tmp_path):
    cfg, model = make(name)
    whole = Whole(model, TASKS[cfg.default_scope])
    path = tmp_path / 'model.pt2'
    size = dict(size=(64, 96), batch=1)
    with quiet():
        write_model(whole, 'torch-export', path, describe(whole, **size))
    x = images(1, 3, 64, 96)
    with torch.no_grad():
        ones = model.test_step(data_for(cfg.default_scope, x))
    others = ExportedModel(path).test_step(data_for(cfg.default_scope, x))
    assert_same(cfg.default_scope, ones, others)
    with pytest.raises(ExportError, match='takes images of 96x64'):
        ExportedModel(path).test_step(
            data_for(cfg.default_scope, images(1, 3, 64, 64))
        )


@pytest.mark.parametrize('name', ['smt_t_in1k', 'retinanet_smt_s_3x'])
def test_openvino(name, tmp_path):
    pytest.importorskip('openvino')
    cfg, model = make(name)
    whole = Whole(model, TASKS[cfg.default_scope])
    path = tmp_path / 'model.xml'
    with quiet():
        write_model(whole, 'openvino', path, describe(whole))
    for shape in SIZES:
        x = images(shape[0], 3, *shape[1:])
        with torch.no_grad():
            ones = model.test_step(data_for(cfg.default_scope, x))
        others = ExportedModel(path).test_step(data_for(cfg.default_scope, x))
        assert_same(cfg.default_scope, ones, others)


def test_what_is_not_exported(tmp_path):
    cfg = shrink('retinanet_smt_s_3x')
    cfg.model.test_cfg.nms = dict(type='soft_nms', iou_threshold=0.5)
    whole = Whole(build(cfg).eval(), 'detection')
    with pytest.raises(ExportError, match='soft_nms'):
        whole(images(1, 3, 64, 64))
    cfg = shrink('upernet_smt_t_160k')
    cfg.model.test_cfg = dict(mode='slide', crop_size=(64, 64), stride=(9, 9))
    with pytest.raises(ExportError, match='test_cfg.mode'):
        Whole(build(cfg).eval(), 'segmentation')
    (tmp_path / 'a.onnx').write_bytes(b'no model')
    with pytest.raises(ExportError, match='cannot be read'):
        ExportedModel(tmp_path / 'a.onnx')


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    """Folders with config, model and data of small models, each made once."""
    made = {}

    def save(name):
        if name in made:
            return made[name]
        folder = made[name] = tmp_path_factory.mktemp(name)
        cfg, model = make(name)
        digits.write(LAYOUTS[name], folder / 'data', 12, 10, (64, 64))
        if cfg.default_scope == 'mmpretrain':  # a copy of the config's
            cfg.model.pop('data_preprocessor')
        for step in cfg.test_dataloader.dataset.pipeline:
            if step.type == 'ResizeEdge':
                step.scale = 72
            elif step.type == 'CenterCrop':
                step.crop_size = 64
            elif step.type.endswith('Resize'):
                step.scale = (96, 64)
        cfg.dump(folder / 'config.py')
        torch.save(dict(state_dict=model.state_dict()), folder / 'model.pth')
        return folder

    return save


@pytest.mark.parametrize('name', LAYOUTS)
def test_command(name, saved, tool_of, tmp_path):
    """Export with a proof; test and predict with the file."""
    folder = saved(name)
    config, data = folder / 'config.py', folder / 'data'
    common = ['--data-root', data]
    command = ['export', config, folder / 'model.pth', *common]
    out = tmp_path / 'model.onnx'
    if name.startswith('mask'):  # rounding decides with random weights
        command += ['--bound', 1]
    status, text = tool_of(*command, '--format', 'onnx', '--out', out)
    assert status == 0, text
    assert 'Compared on 10 images' in text
    assert out.is_file()
    assert [path.name for path in tmp_path.iterdir()] == ['model.onnx']
    options = [*common, '--work-dir', tmp_path / 'run', '--cfg-options']
    options += ['test_dataloader.num_workers=0']
    options += ['test_dataloader.persistent_workers=False']
    scores = []
    for model in (folder / 'model.pth', out):
        status, text = tool_of('test', config, model, *options)
        assert status == 0, text
        result = next((tmp_path / 'run').glob('*/2*.json'))
        scores.append(json.loads(result.read_text()))
        result.unlink()
    for key, value in scores[0].items():
        if key.endswith(METRICS):
            assert scores[1][key] == pytest.approx(value, abs=0.01)
    photos = (x for x in data.rglob('*.*') if x.suffix in ('.jpg', '.JPEG'))
    source = next(photos)
    results = []
    for kind, model in (('a', folder / 'model.pth'), ('b', out)):
        status, text = tool_of(
            *('predict', config, model, source, '--no-pictures'),
            *('--out', tmp_path / kind),
        )
        assert status == 0, text
        files = sorted(p for p in (tmp_path / kind).rglob('*') if p.is_file())
        results.append([path.read_bytes() for path in files])
    assert len(results[0]) == len(results[1]) == 1
    if not name.startswith('mask'):
        assert results[0] == results[1]


@pytest.mark.one_stack
def test_bounds(saved, tool_of, tmp_path):
    """Beyond them there is no file."""
    classifier = saved('smt_t_in1k')
    command = ['export', classifier / 'config.py', classifier / 'model.pth']
    command += ['--data-root', classifier / 'data', '--format', 'onnx']
    command += ['--precision', 'int8', '--out', tmp_path / 'model.onnx']
    status, text = tool_of(*command, '--bound', '1e-12')
    assert status == 1 and '--bound' in text, text
    assert list(tmp_path.iterdir()) == []
    status, text = tool_of(*command, '--images', 2, '--metric-bound', 1)
    assert status == 0, text
    assert 'Compared on 2 images' in text
    status, text = tool_of(*command)
    assert status == 2 and 'exists already' in text
    command[2] = tmp_path / 'model.onnx'
    status, text = tool_of(*command)
    assert status == 2 and 'is an exported file already' in text


@pytest.mark.one_stack
def test_photographs_without_labels(saved, tool_of, tmp_path):
    """Only outputs are compared; int8 is calibrated on photographs."""
    folder = saved('smt_t_in1k')
    photos = sorted((folder / 'data').rglob('*.JPEG'))[:3]
    out = tmp_path / 'model.onnx'
    command = ['export', folder / 'config.py', folder / 'model.pth']
    command += ['--format', 'onnx', '--out', out]
    status, text = tool_of(*command)
    assert status == 1 and 'labels instead: --sources FOLDER' in text
    command += ['--sources', *photos]
    status, text = tool_of(*command)
    assert status == 0 and out.is_file(), text
    assert 'Compared on 3 images' in text
    assert 'none: there are no labels' in text
    out.unlink()
    status, text = tool_of(*command, '--precision', 'int8', '--images', 2)
    assert status == 0 and 'nothing is required of int8' in text, text
    out.unlink()
    status, text = tool_of(
        *(*command, '--precision', 'int8', '--bound', 1e-9, '--images', 2)
    )
    assert status == 1 and 'outputs differ by' in text
    bad = tmp_path / 'bad.png'
    bad.touch()
    status, text = tool_of(*command, bad)
    assert status == 1 and f"'{bad}': images are empty files" in text
    assert not out.exists()


def test_heads_of_several_labels_are_refused():
    """Their probabilities are no softmax."""
    _, model = make('smt_t_in1k')
    from mmpretrain.models import MultiLabelLinearClsHead

    model.head = MultiLabelLinearClsHead(80, 256)
    with pytest.raises(ExportError, match='MultiLabelLinearClsHead gives'):
        Whole(model, 'classification')


@pytest.mark.one_stack
def test_example_without_torch(saved, tool_of, root, tmp_path):
    """In an environment of ONNX Runtime and NumPy."""
    classifier = saved('smt_t_in1k')
    out = tmp_path / 'model.onnx'
    status, text = tool_of(
        *('export', classifier / 'config.py', classifier / 'model.pth'),
        *('--data-root', classifier / 'data', '--images', 1),
        *('--format', 'onnx', '--out', out),
    )
    assert status == 0, text
    pixels = images(3, 64, 64).numpy()
    np.save(tmp_path / 'photo.npy', pixels.transpose(1, 2, 0))
    site = tmp_path / 'site'
    site.mkdir()
    for package in (np, onnxruntime):
        folder = Path(package.__file__).parent
        for path in folder.parent.glob(f'{folder.name}*'):
            (site / path.name).symlink_to(path)
    command = [sys.executable, '-S', root / 'docs/examples/run_onnx.py', out]

    def run(photo, site):
        found = subprocess.run(
            [*command, photo],
            env=dict(os.environ, PYTHONPATH=str(site)),
            capture_output=True,
            text=True,
        )
        assert found.returncode == 0, found.stderr
        return found

    found = run(tmp_path / 'photo.npy', site)
    # A photo as a phone stores it, and one of 16 bits.
    photo = Image.fromarray(pixels.transpose(1, 2, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.rotate(90, expand=True).save(tmp_path / 'turned.png', exif=exif)
    grey = np.asarray(photo.convert('L'))
    deep = tmp_path / 'deep.png'
    Image.fromarray((grey.astype(np.uint16) << 8) + 77).save(deep)
    np.save(tmp_path / 'grey.npy', grey[..., None].repeat(3, -1))
    packages = Path(np.__file__).parents[1]
    assert run(tmp_path / 'turned.png', packages).stdout == found.stdout
    expected = run(tmp_path / 'grey.npy', site).stdout
    assert run(deep, packages).stdout == expected
    runtime = ExportedModel(out).runtime
    scores = runtime.run(pixels[None])[0][0]
    name, score = found.stdout.splitlines()[0].rsplit(' ', 1)
    assert name == runtime.description.classes[scores.argmax()]
    assert float(score) == pytest.approx(scores.max(), abs=1e-3)
    assert not (site / 'torch').exists()
