"""Data and validation are checked before the first iteration."""

import json
import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import METRICS, MODELS
from support import toy
from support.runs import CONFIG, SHORT

from mmsmt import launch
from mmsmt.data.findings import Findings
from mmsmt.data.summary import Summary
from mmsmt.errors import UserError
from mmsmt.launch import checking, testing
from mmsmt.launch.checking import check_classes_of


@pytest.mark.parametrize('command', ['train.py', 'test.py'])
def test_faults_stop_a_run(tool, coco, trained, tmp_path, command):
    root = shutil.copytree(coco, tmp_path / 'coco')
    path = root / 'annotations' / 'instances_val2017.json'
    content = json.loads(path.read_text())
    content['annotations'][0]['category_id'] = 1000
    path.write_text(json.dumps(content))
    arguments = [command, CONFIG, trained[0] / 'epoch_1.pth'][
        : 2 if command == 'train.py' else 3
    ]
    status, output = tool(
        *arguments, '--data-root', root, '--work-dir', tmp_path / 'run', *SHORT
    )
    assert status == 1
    assert '1 annotations name a category that is absent' in output
    assert not list(tmp_path.glob('run/**/*.pth'))


@pytest.mark.one_stack
def test_trial_changes_no_loss(python, root, coco, tmp_path):
    """Nor does a model that detects nothing make it fail."""
    losses = []
    for options in ([], ['--no-trial']):
        output = python(
            *('tools/train.py', CONFIG, '--data-root', coco, *options),
            *('--work-dir', tmp_path / f'run{len(losses)}', *SHORT),
            *('train_cfg.max_epochs=1', 'randomness.seed=0'),
            'model.test_cfg.rcnn.score_thr=1.0',
            cwd=root,
        ).stdout
        losses.append(re.findall(r' loss: ([\d.]+)', output))
        assert losses[-1]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        (
            ['val_evaluator.metric_items=[mAP,mAP_99]'],
            ['The validation fails on its first 2 batches', 'mAP_99'],
        ),
        (
            [
                'val_evaluator.metric_items=[mAP,mAP_50]',
                'default_hooks.checkpoint.save_best=coco/bbox_mAP_75',
            ],
            ["save_best='coco/bbox_mAP_75' is no metric", 'coco/bbox_mAP_50'],
        ),
    ],
)
def test_validation_is_tried(python, root, coco, tmp_path, settings, words):
    result = python(
        *('tools/train.py', CONFIG, '--data-root', coco),
        *('--work-dir', tmp_path, *SHORT, *settings),
        cwd=root,
        check=False,
    )
    assert result.returncode == 1
    for word in words:
        assert word in result.stdout
    assert 'Epoch(' not in result.stdout
    assert not list(tmp_path.glob('**/*.pth'))


@pytest.mark.parametrize(
    ('classes', 'split', 'error', 'count'),
    [
        (('b', 'a'), 'train', True, 1),
        (('b', 'a'), 'test', True, 1),
        (('c', 'd'), 'test', False, 1),
        (('c', 'd'), 'train', False, 0),  # fine-tuning
        (('a', 'b'), 'test', False, 0),
    ],
)
def test_classes_of_a_checkpoint(tmp_path, classes, split, error, count):
    path = tmp_path / 'x.pth'
    meta = dict(dataset_meta=dict(classes=classes))
    torch.save(dict(state_dict={}, meta=meta), path)
    findings = Findings()
    summaries = {split: Summary(classes=('a', 'b'))}
    check_classes_of(str(path), summaries, findings)
    assert len(findings) == count
    assert bool(findings.errors) == error
    if error:
        assert 'the same in another order' in str(findings.errors[0])
    # A run goes on with its own data.
    findings = Findings()
    check_classes_of(str(path), summaries, findings, resumed=True)
    assert bool(findings.errors) == (classes != ('a', 'b'))


def test_classes_of_an_exported_file(tmp_path, monkeypatch):
    """Nothing else says how many it has."""
    description = SimpleNamespace(classes=['a', 'b', 'c'])
    monkeypatch.setattr(
        checking,
        'open_runtime',
        lambda path: SimpleNamespace(description=description),
    )
    findings = Findings()
    summaries = dict(test=Summary(classes=('a', 'b')))
    check_classes_of('model.onnx', summaries, findings)
    assert 'it has the classes (a, b, c)' in str(*findings.errors)
    description.classes = ['b', 'a']
    check_classes_of('other.onnx', summaries, findings)
    assert 'in another order' in str(findings.errors[1])


def test_pictures_are_not_written_over(coco, tmp_path):
    """They keep the names of the images."""
    path = tmp_path / 'x.pth'
    path.touch()
    cfg = launch.load_config(CONFIG, data_root=str(coco))
    with pytest.raises(UserError, match='exists: give a new folder'):
        launch.prepare_testing(cfg, str(path), show_dir=f'{coco}/val2017')


@METRICS.register_module(force=True)
class ImagesMetric(toy.ToyMetric):
    """A metric of all images, as COCO's is, if nothing chooses them."""

    default_prefix = 'toy'
    seen: list = []

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.img_ids = None

    def compute_metrics(self, results):
        self.seen.append(self.img_ids)
        return super().compute_metrics(results)


@MODELS.register_module(force=True)
class ModelWithoutWeights(toy.ToyModel):
    """One that cannot predict before its weights are initialized."""

    ready = False

    def init_weights(self) -> None:
        super().init_weights()
        self.ready = True

    def forward(self, *args, **kwargs):
        assert self.ready
        return super().forward(*args, **kwargs)


def test_trial_has_the_initial_weights(tool_of, tmp_path):
    """Sparse R-CNN's boxes have negative sizes before."""
    changes = {'model.type': 'ModelWithoutWeights', 'train_cfg.max_epochs': 1}
    config = toy.write_config(tmp_path / 'run.py', **changes)
    status, text = tool_of('train', config, '--work-dir', tmp_path / 'run')
    assert status == 0, text


def test_trial_evaluates_its_images_only(tool_of, tmp_path):
    changes = {'val_evaluator.type': 'ImagesMetric', 'train_cfg.max_epochs': 1}
    config = toy.write_config(tmp_path / 'run.py', **changes)
    status, text = tool_of('train', config, '--work-dir', tmp_path / 'run')
    assert status == 0, text
    assert ImagesMetric.seen == [list(range(8)), None]


@METRICS.register_module(force=True)
class EmptyMetric(toy.ToyMetric):
    """One that gives nothing, as COCO's where nothing is found."""

    default_prefix = 'empty'

    def compute_metrics(self, results):
        return {}


@pytest.mark.one_stack
@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'default_hooks.checkpoint.save_best': 'empty/score'}, ''),
        ({'default_hooks.checkpoint.save_best': 'score'}, "save_best='score'"),
        (
            {'param_scheduler': [dict(type='ReduceOnPlateauLR')]},
            "param_scheduler.0.monitor='loss' is no metric of the validation",
        ),
    ],
)
def test_metrics_that_are_followed(tool_of, tmp_path, changes, words):
    """One that may give more than it does on two images is not refused."""
    folder = tmp_path / 'predictions'
    metrics = [
        dict(type='ToyMetric'),
        dict(type='EmptyMetric'),
        dict(type='DumpResults', out_file_path=f'{folder}/val.pkl'),
    ]
    changes = {
        'val_evaluator': metrics,
        'train_cfg.max_epochs': 1,
        'default_hooks.checkpoint.rule': 'greater',
        **changes,
    }
    config = toy.write_config(tmp_path / 'run.py', **changes)
    status, text = tool_of('train', config, '--work-dir', tmp_path / 'run')
    assert (status, words in text) == (int(bool(words)), True), text
    assert folder.exists() != bool(words)  # the trial writes elsewhere


@pytest.mark.one_stack
def test_evaluators_that_divide_datasets(tool_of, tmp_path):
    """Their metrics are counted: one more would take another's results."""
    evaluator = dict(type='MultiDatasetsEvaluator', dataset_prefixes=['a'])
    config = toy.write_config(
        tmp_path / 'run.py', **{'test_evaluator': evaluator}
    )
    status, text = tool_of('test', config, 'x.pth', '--out', 'out.pkl')
    assert status == 1
    assert '--out writes all outputs, and MultiDatasetsEvaluator' in text


@pytest.mark.parametrize('host', ['mmdet', 'mmpretrain', 'mmseg'])
def test_every_picture_is_drawn(tmp_path, host):
    """mmpretrain's and mmseg's hooks count samples in tests too."""
    hooks = dict(visualization=dict(type='VisualizationHook'))
    cfg = Config(dict(default_scope=host, default_hooks=hooks, visualizer={}))
    testing._draw(cfg, False, str(tmp_path), 0)
    drawn = cfg.default_hooks.visualization.get('interval')
    assert drawn == (None if host == 'mmdet' else 1)
    with pytest.raises(launch.LaunchError, match='no visualization hook'):
        testing._draw(Config(dict(default_scope=host)), False, 'x', 0)


def test_nothing_to_check(tool_of, tmp_path):
    """Is no fine data."""
    config = tmp_path / 'config.py'
    config.write_text("default_scope = 'mmdet'")
    for command in ('check', 'rehearse'):
        status, output = tool_of(command, config)
        assert status == 1 and ': no ' in output, output
    status, output = tool_of('train', config, '--work-dir', tmp_path / 'w')
    assert status == 1 and 'has no model, train_dataloader' in output
    config.write_text(
        "default_scope = 'mmdet'\ntest_dataloader = dict(dataset=dict("
        "type='CocoDataset', data_root='s3://bucket/', ann_file='a.json'))\n"
        "test_cfg = dict()\ntest_evaluator = dict(type='CocoMetric')"
    )
    status, output = tool_of('check', config)
    assert status == 0 and 'No data was checked' in output, output
    assert 'is fine' not in output


def test_tasks_of_a_scheduler_are_no_ranks(tool_of, tmp_path, monkeypatch):
    """Each of several commands of one srun checks its own data."""
    monkeypatch.setenv('SLURM_PROCID', '1')
    monkeypatch.setenv('RANK', '2')
    status, output = tool_of('check', CONFIG, '--data-root', tmp_path / 'no')
    assert status == 1 and 'is missing' in output, output
