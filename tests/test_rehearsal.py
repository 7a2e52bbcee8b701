"""A rehearsal is the config in little, and fails where the config would."""

import json
import signal
from pathlib import Path

import pytest
from mmengine.config import Config

from mmsmt import rehearsal
from mmsmt.launch import LaunchError

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'


def load(name: str) -> Config:
    return Config.fromfile(CONFIGS / f'{name}.py')


@pytest.mark.parametrize(
    'name, length, milestones',
    [
        ('mask_rcnn_smt_s_1x', 12, [8, 11]),
        ('mask_rcnn_smt_s_3x', 12, [9, 11]),
        ('mask_rcnn_smt_s_3x', 4, [2, 3]),
        ('dino_smt_s_1x', 6, [5]),
    ],
)
def test_steps_at_the_corresponding_points(name, length, milestones):
    cfg = load(name)
    assert rehearsal.shorten(cfg, length) == 2
    assert cfg.train_cfg.max_epochs == length
    *warmup, steps = cfg.param_scheduler
    assert (steps.milestones, steps.end) == (milestones, length)
    for scheduler in warmup:  # 500 of some 88,000 iterations
        assert (scheduler.begin, scheduler.end) == (0, 2)
    assert cfg.train_cfg.val_interval == 1
    assert cfg.default_hooks.checkpoint.interval == 1


def test_iterations_and_accumulation():
    cfg = load('upernet_smt_s_160k')
    rehearsal.shorten(cfg, 20)
    assert cfg.train_cfg.max_iters == 40
    assert cfg.train_cfg.val_interval == 4
    assert cfg.default_hooks.checkpoint.interval == 4
    warmup, poly = cfg.param_scheduler
    # The warm-up ends where the decay begins.
    assert (warmup.end, poly.begin, poly.end) == (2, 2, 40)

    cfg = load('smt_l_in22k')
    cfg.optim_wrapper.accumulative_counts = 4
    assert rehearsal.shorten(cfg, 6) == 8  # of 4 accumulated
    warmup, cosine = cfg.param_scheduler
    assert (warmup.end, cosine.begin, cosine.end) == (1, 1, 6)


def test_every_size_is_scaled_once():
    cfg = load('upernet_smt_s_160k')
    rehearsal.scale_images(cfg, 0.25)
    assert cfg.model.data_preprocessor.size == (128, 128)
    steps = {s.type: s for s in cfg.train_dataloader.dataset.pipeline}
    assert steps['RandomResize'].scale == (512, 128)
    assert steps['RandomCrop'].crop_size == (128, 128)
    for part in ('val', 'test'):  # one object in the config's source
        resize = cfg[f'{part}_dataloader'].dataset.pipeline[1]
        assert resize.scale == (512, 128)
    scales = [s.scale for s in cfg.tta_pipeline[1].transforms[0]]
    assert scales[0] == (256, 64) and scales[-1] == (896, 224)

    cfg = load('smt_t_in1k')
    rehearsal.scale_images(cfg, 0.25)
    steps = {s.type: s for s in cfg.test_dataloader.dataset.pipeline}
    assert steps['ResizeEdge'].scale == 64
    assert steps['CenterCrop'].crop_size == 56

    crop = dict(
        type='torchvision/RandomResizedCrop', size=224, scale=(0.08, 1.0)
    )
    cfg.train_dataloader.dataset.pipeline = [crop]
    rehearsal.scale_images(cfg, 0.5)
    (got,) = cfg.train_dataloader.dataset.pipeline
    assert got == dict(crop, size=112)

    cfg, real = load('atss_smt_s_3x'), load('atss_smt_s_3x')
    rehearsal.scale_images(cfg, 0.5)
    choice = cfg.train_dataloader.dataset.pipeline[3]
    assert choice.transforms[0][0].scales[0] == (240, 666)
    rehearsal.scale_images(real, 1.0)
    assert real.train_dataloader == load('atss_smt_s_3x').train_dataloader


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
    rehearsal.use_digits(cfg, tmp_path, 2, 0.2)
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
    with pytest.raises(LaunchError, match="usual folders only.*img/train'"):
        rehearsal.use_digits(cfg, tmp_path, 2, 0.1)


def test_hooks_at_the_corresponding_points():
    cfg = load('retinanet_smt_s_3x')
    cfg.train_cfg.update(val_begin=24, dynamic_intervals=[(30, 1)])
    cfg.custom_hooks = [
        dict(type='PipelineSwitchHook', switch_epoch=30),
        dict(type='EMAHook', begin_epoch=18),
    ]
    rehearsal.shorten(cfg, 6)
    assert cfg.train_cfg.val_begin == 4
    assert cfg.train_cfg.dynamic_intervals == [(5, 1)]
    switch, ema = cfg.custom_hooks
    assert (switch.switch_epoch, ema.begin_epoch) == (5, 3)
    cfg = load('retinanet_smt_s_3x')
    del cfg.default_hooks['checkpoint']
    rehearsal.shorten(cfg, 6)


def test_paths_of_ones_own_are_left_alone(tmp_path):
    """Absolute paths would lead out of the rehearsal."""
    cfg = load('retinanet_smt_s_3x')
    mine = tmp_path / 'mine.json'
    cfg.train_dataloader.dataset.ann_file = str(mine)
    with pytest.raises(LaunchError, match='must be relative'):
        rehearsal.use_digits(cfg, tmp_path / 'digits', 2, 0.1)
    assert not mine.exists()


def test_data_without_digits():
    cfg = load('retinanet_smt_s_3x')
    cfg.train_dataloader.dataset.type = 'VOCDataset'
    with pytest.raises(LaunchError, match="layout of 'VOCDataset'"):
        rehearsal.source_of(cfg)


@pytest.mark.parametrize('name', ['mine.pth', 'torchvision://resnet50'])
def test_other_weights_are_left_to_the_run(tmp_path, name):
    cfg = load('mask_rcnn_smt_t_1x')
    cfg.model.backbone.init_cfg.checkpoint = name
    assert rehearsal.local_weights(cfg, tmp_path) == []
    assert cfg.model.backbone.init_cfg.checkpoint == name


def test_stand_in_weights(tmp_path, monkeypatch):
    """Without a network, files that load as the released ones would."""
    import torch
    from mmengine.registry import MODELS, init_default_scope

    monkeypatch.setenv('TORCH_HOME', str(tmp_path))

    def unreachable(*args, **kwargs):
        raise OSError('no route')

    monkeypatch.setattr(torch.hub, 'download_url_to_file', unreachable)
    cfg = load('smt_l_in1k_ft_224')
    (said,) = rehearsal.local_weights(cfg, tmp_path / 'weights')
    assert said == 'random ones for smt_large_22k.pth (no route)'
    init_default_scope('mmpretrain')
    model = MODELS.build(cfg.model)
    model.init_weights()
    assert model.backbone.loaded_from.endswith('smt_large_22k.pth')


@pytest.fixture
def rehearsed(tmp_path, monkeypatch):
    """A rehearsal whose tools are replaced by what they would note."""
    subject = rehearsal.Rehearsal(
        load('mask_rcnn_smt_s_1x'), tmp_path, tmp_path, 0.25
    )
    runs = []

    def tool(name, *args):
        status, notes = runs.pop(0)
        with open(subject.probe, 'a') as file:
            for note in notes:
                file.write(json.dumps(note) + '\n')
        return status, 'the log'

    monkeypatch.setattr(subject, '_tool', tool)
    return subject, runs


def note(iteration: int, lr: float = 0.1) -> dict:
    return dict(iteration=iteration, of=4, lr=lr, loss=1.0, seconds=1.0, gpu=0)


KILLED = (-signal.SIGKILL, [note(0), note(1), note(2)])
IDLE = dict(idle=[])
DONE = [note(2), note(3), IDLE, dict(metrics=dict(mAP=0.5))]


@pytest.mark.parametrize(
    'resumed, message',
    [
        ((0, DONE), None),
        ((1, []), 'exit status 1'),
        ((0, [note(i) for i in range(4)]), 'began anew'),
        ((0, [note(2)]), 'ended after 3'),
        ((0, [note(2, 0.2), *DONE[1:]]), 'was 0.1 and is 0.2'),
        ((0, [*DONE[:2], dict(idle=['neck.a'])]), '1 parameters never'),
        ((0, DONE[:3]), 'never validated'),
        ((0, [*DONE[:3], dict(metrics={})]), 'no metric'),
    ],
)
def test_resume_is_checked(rehearsed, resumed, message):
    subject, runs = rehearsed
    (subject.work_dir / 'run').mkdir()
    (subject.work_dir / 'run' / 'last_checkpoint').touch()
    runs += [KILLED, resumed]
    assert subject.train() == 'killed in iteration 3 of 4'
    if message is None:
        assert 'from iteration 3; lr 0.1' in subject.resume()
        return
    with pytest.raises(rehearsal.Failure, match=message):
        subject.resume()


@pytest.mark.parametrize('run', [(1, KILLED[1]), (KILLED[0], [note(0)])])
def test_a_run_that_was_not_killed_as_planned(rehearsed, run):
    subject, runs = rehearsed
    runs.append(run)
    with pytest.raises(rehearsal.Failure, match='exit status'):
        subject.train()


def test_one_checkpoint_only(rehearsed):
    """What is saved at the end only cannot be resumed, and is no failure."""
    subject, runs = rehearsed
    runs.append((0, [*KILLED[1], note(3), *DONE[2:]]))
    assert subject.train() == '4 iterations; no checkpoint before the last'
    assert subject.resume().startswith('nothing to resume; lr 0.1')


def test_a_stage_that_raises_is_a_line_of_the_table(rehearsed, monkeypatch):
    subject, _ = rehearsed

    def broken():
        raise KeyError('of a kind not thought of')

    monkeypatch.setattr(subject, 'make_data', broken)
    assert not subject.run()
    lines = '\n'.join(rehearsal.table(subject.stages))
    assert 'FAILED' in lines and 'of a kind not thought of' in lines


def test_cures():
    log = 'torch.OutOfMemoryError: CUDA out of memory. Tried to allocate'
    assert 'with_cp' in rehearsal.cure(log)
    assert '--scale' in rehearsal.cure('selected index k out of range')
    log = 'IndexError: Target 7 is out of bounds.'
    assert 'num_classes' in rehearsal.cure(log)
    assert rehearsal.cure('KeyError') == ''


def test_estimate():
    """12 epochs of 117,266 images, 16 at a time, at a quarter of a second."""
    text = rehearsal.estimate(
        [9.0, 0.25, 0.25, 0.25], 8 * 2**30, 80 * 2**30, load(
            'mask_rcnn_smt_s_1x'
        ), 'a GPU'
    )  # fmt: skip
    assert 'with 117266 images as in the paper: 87950 iterations' in text
    assert 'of 0.250 s, 6.1 h on 8 GPUs (a GPU)' in text
    assert '49 h on one' in text.replace('\n', ' ')
    assert 'Memory at 2 images a GPU: at least 8.0 of 80.0 GiB.' in text
    text = rehearsal.estimate(
        [1.0], 2**30, 2**34, load('upernet_smt_s_160k'), 'a GPU'
    )
    assert '160000 iterations of 1.000 s, 44.4 h on 8 GPUs' in text


@pytest.mark.slow
def test_a_config_that_would_break_fails(python, tmp_path):
    """Labels beyond the classes: found in seconds, said with its log."""
    folder = tmp_path / 'rehearsal'
    args = ('tools/rehearse.py', 'configs/smt_t_in1k.py', '--scale', '0.15')
    result = python(
        *args,
        *('--batch', 2, '--work-dir', folder),
        *('--cfg-options', 'model.head.num_classes=2'),
        'data_preprocessor.num_classes=2',
        check=False,
        cwd=CONFIGS.parent,
    )
    assert result.returncode == 1
    assert 'train, kill' in result.stdout
    assert 'FAILED: exit status 1' in result.stdout
    assert 'Error' in result.stdout.split('FAILED')[1]
    assert 'Cure: num_classes of every head' in result.stdout
    assert (folder / 'train.log').is_file()
    again = python(
        *args, '--work-dir', folder, check=False, cwd=CONFIGS.parent
    )
    assert again.returncode == 1 and 'give a new folder' in again.stdout
