"""Wrong arguments and missing data are reported at once."""

import os

import pytest
import torch
from support.runs import CONFIG

from mmsmt import launch
from mmsmt.errors import UserError


def test_no_coco(tool, tmp_path):
    status, output = tool(
        *('train.py', CONFIG, '--work-dir', tmp_path),
        *('--data-root', tmp_path / 'coco'),
    )
    assert status == 1
    for words in (
        f"'{tmp_path}/coco/annotations/instances_train2017.json' is missing",
        'val2017/000000000139.jpg',
        'https://cocodataset.org/#download',
        'make demo',
        '--data-root DIR',
    ):
        assert words in output


def test_own_layout_is_sent_to_the_converter(tool, tmp_path):
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / 'a.jpg').touch()
    status, output = tool(
        *('train.py', CONFIG, '--work-dir', tmp_path / 'run'),
        *('--data-root', tmp_path / 'photos'),
    )
    assert status == 1
    assert f"mmsmt data '{tmp_path}/photos' --out" in output
    assert 'cocodataset.org' not in output


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['train.py', 'configs/none.py'], "no config 'configs/none.py'"),
        (['test.py', CONFIG, 'none.pth'], "no checkpoint 'none.pth'"),
        (
            ['train.py', CONFIG, '--resume', 'none.pth'],
            "no checkpoint 'none.pth' to resume",
        ),
        (
            ['train.py', CONFIG, '--launcher', 'mpi', '--data-root', 0],
            'is for processes that it starts',
        ),
        (['test.py', CONFIG, 's3://bucket/x.pth'], 'give the local file'),
    ],
)
def test_wrong_arguments(tool, coco, arguments, words, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    arguments = [coco if argument == 0 else argument for argument in arguments]
    status, output = tool(*arguments, '--work-dir', tmp_path)
    assert status == 1
    assert words in output


@pytest.mark.parametrize('command', ['train.py', 'test.py'])
def test_code_in_a_checkpoint_is_not_run(tool, coco, tmp_path, command):
    """mmengine would run it: the file is read safely before."""
    from support.evil import Evil

    path, trace = tmp_path / 'evil.pth', tmp_path / 'trace'
    torch.save(dict(state_dict={}, meta=Evil(os.mkdir, str(trace))), path)
    arguments = [command, CONFIG, '--data-root', coco]
    arguments += ['--work-dir', tmp_path / 'run']
    if command == 'test.py':
        arguments.insert(2, path)
    else:
        arguments += ['--cfg-options', f'load_from={path}']
    status, output = tool(*arguments)
    assert status == 1
    assert 'is refused: it asks to call' in output
    assert not trace.exists()


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('a = (', 'SyntaxError'),
        ('a = b', "NameError: name 'b' is not defined"),
        ("_base_ = 'absent.py'", 'absent.py'),
    ],
)
def test_configs_that_cannot_be_read(tool_of, tmp_path, text, words):
    path = tmp_path / 'run.py'
    path.write_text(text)
    status, output = tool_of('check', path)
    assert status == 1 and f"'{path}' cannot be read" in output
    assert words in output and 'Traceback' not in output


OPTIONS = {
    'load_form=x.pth': 'did you mean load_from?',
    'data.samples_per_gpu=2': 'it is train_dataloader, val_dataloader and',
    'lr_config.step=[8,11]': 'it is param_scheduler now',
    'max_epochs=3': 'a variable of the config, which was read before: set '
    'train_cfg.max_epochs',
    'batch_size=4': 'nothing reads batch_size: set train_dataloader.batch_',
    'data_root=elsewhere': 'give --data-root DIR',
    'launcher=pytorch': 'it is the option --launcher now',
    'custom_imports.imports=a': 'modules are imported before',
    'param_scheduler.5.end=3': 'Index 5 exceeds the length',
    'model.backbone.init_cfg.type=Pretrained': 'cannot inherit from base',
}


@pytest.mark.one_stack
@pytest.mark.parametrize('option', OPTIONS)
def test_options_without_an_effect(option):
    key, value = option.split('=')
    with pytest.raises(launch.LaunchError) as error:
        launch.load_config(
            'configs/demo/mask_rcnn_smt_t_digits.py', cfg_options={key: value}
        )
    text = str(error.value)
    assert f'--cfg-options {option}' in text and OPTIONS[option] in text


@pytest.mark.one_stack
@pytest.mark.parametrize('option', ['width=32', 'mine.key=1'])
def test_options_that_own_code_may_read(option, capsys):
    key, value = option.split('=')
    cfg = launch.load_config(
        'configs/demo/mask_rcnn_smt_t_digits.py', cfg_options={key: value}
    )
    assert cfg.get(key.split('.')[0])
    assert 'It has no effect, unless code of your' in capsys.readouterr().out


def test_options_that_are_no_settings(tool_of, tmp_path):
    path = tmp_path / 'run.py'
    path.write_text('a = 1')
    status, output = tool_of('check', path, '--cfg-options', 'a')
    assert status == 2 and "'a' is not KEY=VALUE" in output


def test_work_dirs_of_converted_data(tmp_path):
    """Each has a config.py."""
    for name in ('birds', 'cats'):
        (tmp_path / name).mkdir()
        path = tmp_path / name / 'config.py'
        path.write_text('a = 1')
        assert launch.load_config(str(path)).work_dir == f'work_dirs/{name}'


@pytest.mark.parametrize(
    'roots, words',
    [
        ((None, None), 'no dataset of the config has one'),
        (('data/a/', 'data/b/'), 'the datasets have data/a, data/b'),
        (('data/a/', 'data/a'), ''),
        (('data/a/', 'data/a/more'), ''),
    ],
)
def test_a_data_root_that_means_nothing(tmp_path, roots, words):
    path = tmp_path / 'x.py'
    loaders = [
        dict(dataset=dict(type='CocoDataset', ann_file='x.json'))
        for _ in roots
    ]
    for loader, root in zip(loaders, roots):
        if root:
            loader['dataset']['data_root'] = root
    path.write_text(
        f'train_dataloader = {loaders[0]}\nval_dataloader = {loaders[1]}'
    )
    if words:
        with pytest.raises(UserError, match=words):
            launch.load_config(str(path), data_root='other')
    else:
        cfg = launch.load_config(str(path), data_root='other')
        assert cfg.train_dataloader.dataset.data_root == 'other/'


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_launchers_that_did_not_launch(tool_of, tmp_path, launcher):
    status, output = tool_of(
        *('train', CONFIG, '--launcher', launcher),
        *('--work-dir', tmp_path / 'w'),
    )
    assert status == 1
    assert f'--launcher {launcher} is for processes that it star' in output
