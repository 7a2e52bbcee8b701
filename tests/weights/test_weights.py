"""Every form that weights come in, and everything that may be wrong."""

import functools
import http.server
import os
import pickle
import tarfile
import threading
from collections import Counter, OrderedDict, deque

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from support import golden
from support.evil import Evil

from mmsmt import SMT, weights
from mmsmt.models.state_dict import our_name
from mmsmt.weights import CheckpointError, reading


@pytest.fixture(scope='module')
def released():
    """Weights of SMT-T under the released names, classifier included."""
    return golden.weights('tiny')


@pytest.fixture(scope='module')
def tiny():
    return SMT('tiny')


def holds(model, released) -> bool:
    state = model.state_dict()
    return all(
        torch.equal(state[our_name(name)], value)
        for name, value in released.items()
        if not name.startswith('head.')
    )


def blank(model):
    with torch.no_grad():
        for value in (*model.parameters(), *model.buffers()):
            value.zero_()
    return model


# Forms -----------------------------------------------------------------------


def detection_names(state):
    return {
        k.replace('.local_conv.', '.dw_conv.'): v for k, v in state.items()
    }


def without_head(state):
    return {k: v for k, v in state.items() if not k.startswith('head.')}


def prefixed(prefix):
    return lambda state: {prefix + k: v for k, v in state.items()}


def ours(state):
    return {our_name(k): v for k, v in without_head(state).items()}


def old(state):
    return {k: v for k, v in state.items() if 'num_batches_tracked' not in k}


def trained_detector(state):
    return {
        **prefixed('backbone.')(ours(state)),
        'neck.lateral_convs.0.conv.weight': torch.zeros(2),
    }


def mmengine_file(state):
    return dict(
        state_dict=OrderedDict(trained_detector(state)),
        meta=dict(epoch=1, dataset_meta=dict(palette=np.zeros(3, np.uint8))),
        message_hub=dict(
            log_scalars=dict(loss=HistoryBuffer([1.0], [1]), last=deque([1]))
        ),
        optimizer=dict(state={0: dict(step=torch.tensor(1.0))}),
        param_schedulers=[dict(milestones=Counter([8, 11]), _counter=1)],
    )


FORMS = {
    'bare': lambda s: s,
    'model': lambda s: dict(model=s, optimizer={}, epoch=299),
    'state_dict': lambda s: dict(state_dict=OrderedDict(s)),
    'no head': lambda s: dict(model=without_head(s)),
    'module.': lambda s: dict(model=prefixed('module.')(s)),
    'backbone.': lambda s: dict(state_dict=prefixed('backbone.')(s)),
    'module.backbone.': lambda s: prefixed('module.backbone.')(s),
    'detection code': lambda s: dict(state_dict=detection_names(s)),
    'our names': ours,
    'no num_batches_tracked': lambda s: dict(model=old(s)),
    'trained detector': lambda s: dict(state_dict=trained_detector(s)),
    'mmengine': mmengine_file,
}


@pytest.mark.parametrize('form', FORMS)
def test_forms(form, released, tiny, tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(FORMS[form](released), path)
    expected = old(released) if form.startswith('no num') else released
    count = weights.load_weights(blank(tiny), path)
    assert count == len(without_head(expected))
    assert holds(tiny, expected)


def test_old_file_format(released, tiny, tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(
        dict(model=released), path, _use_new_zipfile_serialization=False
    )
    weights.load_weights(blank(tiny), path)
    assert holds(tiny, released)


@pytest.mark.parametrize('zipped', [True, False])
def test_yacs_config_without_yacs(released, tiny, tmp_path, zipped):
    """The released files hold the training config as a yacs CfgNode."""
    path = tmp_path / 'weights.pth'
    golden.save_as_released(released, path, zipped)
    weights.load_weights(blank(tiny), path)
    assert holds(tiny, released)


@pytest.mark.parametrize('form', ['released', 'detection', 'ours'])
def test_plain_strict_load_state_dict(form, released, tiny):
    state = dict(
        released=released,
        detection=detection_names(released),
        ours=ours(released),
    )[form]
    names = list(state)
    blank(tiny).load_state_dict(state, strict=True)
    assert holds(tiny, released)
    assert list(state) == names  # the caller's dict is not touched
    wrapper = torch.nn.ModuleDict(dict(backbone=blank(tiny)))
    wrapper.load_state_dict(prefixed('backbone.')(state), strict=True)
    assert holds(tiny, released)


@pytest.mark.smoke
def test_strict_load_state_dict_still_refuses(released):
    model = SMT('tiny')
    with pytest.raises(RuntimeError, match=r'norm1\.weight'):
        model.load_state_dict(
            {k: v for k, v in released.items() if k != 'norm1.weight'}
        )
    with pytest.raises(RuntimeError, match=r'extra\.weight'):
        model.load_state_dict({**released, 'extra.weight': torch.zeros(1)})


def test_stages_that_are_not_built_are_left_out(released, tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(dict(model=released), path)
    model = SMT('tiny', out_indices=(0, 2))
    assert weights.load_weights(model, path) == len(model.state_dict())
    model.load_state_dict(released, strict=True)


# init_cfg --------------------------------------------------------------------


@pytest.mark.parametrize('as_list', [False, True])
def test_init_cfg(released, tmp_path, as_list):
    path = tmp_path / 'weights.pth'
    torch.save(dict(model=released), path)
    cfg = dict(type='Pretrained', checkpoint=str(path))
    if as_list:
        cfg = [cfg, dict(type='Constant', layer='LayerNorm', val=3.0)]

    class Detector(BaseModule):
        def __init__(self):
            super().__init__()
            self.backbone = MODELS.build(
                dict(type='mmsmt.SMT', arch='tiny', init_cfg=cfg)
            )

    detector = Detector()
    detector.init_weights()
    assert holds(detector.backbone, released)
    loaded = f'all {len(released) - 2} tensors from {path}'
    assert detector.backbone.loaded_from == loaded


def test_init_cfg_prefix(released, tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(prefixed('student.')(released), path)
    cfg = dict(type='Pretrained', checkpoint=str(path), prefix='student.')
    model = SMT('tiny', init_cfg=cfg)
    model.init_weights()
    assert holds(model, released)
    cfg['prefix'] = 'teacher.'
    with pytest.raises(CheckpointError, match=r"under 'teacher\.'"):
        SMT('tiny', init_cfg=cfg).init_weights()


# Whole or an error -----------------------------------------------------------


def test_nothing_is_loaded_in_part(released, tiny, tmp_path):
    state = dict(released)
    for name in list(old(state))[:6]:
        del state[name]
    state['norm4.weight'] = torch.zeros(7)
    state['neck.weight'] = torch.zeros(1)
    path = tmp_path / 'weights.pth'
    torch.save(dict(model=state), path)
    blank(tiny)
    with pytest.raises(CheckpointError) as error:
        weights.load_weights(tiny, path)
    text = str(error.value)
    assert 'missing: patch_embed1.conv1.weight' in text
    assert '(6 in all)' in text
    assert 'unexpected: neck.weight' in text
    assert 'norm4.weight (7,) for (512,)' in text
    assert str(path) in text
    assert not any(value.any() for value in tiny.state_dict().values())


ARCHS = [(arch, scale) for arch in SMT.ARCHS for scale in (0.0, 1e-4)]


@functools.cache
def on_meta(arch, scale):
    with torch.device('meta'):
        return SMT(arch, layer_scale_init_value=scale)


@pytest.mark.parametrize('arch, scale', ARCHS)
def test_every_other_arch_is_refused_by_name(arch, scale):
    state = on_meta(arch, scale).state_dict()
    for other, other_scale in ARCHS:
        if (other, other_scale) == (arch, scale):
            continue
        with pytest.raises(CheckpointError) as error:
            weights.load_state(on_meta(other, other_scale), state, 'file')
        text = str(error.value)
        assert (f"The file fits arch '{arch}'" in text) == (arch != other)
        assert ('The file has LayerScale' in text) == (scale > other_scale)
        assert ('The model has LayerScale' in text) == (scale < other_scale)


# Bad files -------------------------------------------------------------------


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('where', ['top', 'inside', 'tensor name'])
def test_code_in_a_file_is_not_run(released, tiny, tmp_path, zipped, where):
    trace = tmp_path / 'trace'
    evil = Evil(os.mkdir, str(trace))
    content = dict(model=released, config=evil) if where == 'inside' else evil
    if where == 'tensor name':
        content = dict(model={**released, evil: torch.zeros(1)})
    path = tmp_path / 'weights.pth'
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r'refused.*posix\.mkdir'):
        weights.load_weights(tiny, path)
    assert not trace.exists()


@pytest.mark.parametrize(
    'function, args',
    [
        (eval, ('1',)),
        (getattr, (1, 'real')),
        (__import__, ('this',)),
        (torch.load, ('x',)),
        (functools.partial, (eval, '1')),
        (np.load, ('x',)),
    ],
)
def test_functions_are_refused(function, args, tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(Evil(function, *args), path)
    with pytest.raises(CheckpointError, match='refused'):
        weights.read_checkpoint(path)


def test_plain_pickle_is_refused(tmp_path):
    trace = tmp_path / 'trace'
    path = tmp_path / 'weights.pth'
    path.write_bytes(pickle.dumps(Evil(os.mkdir, str(trace))))
    with pytest.raises(CheckpointError):
        weights.read_checkpoint(path)
    assert not trace.exists()


def test_foreign_persistent_ids_are_refused(tmp_path):
    """In the old format, 'module' makes torch read and write source files."""
    import io

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value if isinstance(value, tuple) else None

    path = tmp_path / 'weights.pth'
    file = io.BytesIO()
    torch.save({}, file, _use_new_zipfile_serialization=False)
    stream = io.BytesIO(file.getvalue())
    for _ in range(3):  # magic number, protocol, system
        pickle.load(stream)
    head = file.getvalue()[: stream.tell()]
    with open(path, 'wb') as out:
        out.write(head)
        Pickler(out, 2).dump(dict(a=('module', 'x', 'y', 'z')))
        pickle.dump([], out, 2)
    with pytest.raises(CheckpointError, match='refused.*persistent object'):
        weights.read_checkpoint(path)


def test_functions_of_torch_cannot_be_changed(tmp_path):
    """A pickle may set attributes of what it finds: of a copy only."""
    name = torch._utils._rebuild_tensor_v2.__name__
    payload = b''.join(
        (
            b'\x80\x02',
            b'ctorch._utils\n_rebuild_tensor_v2\n',
            b'}X\x08\x00\x00\x00__name__X\x04\x00\x00\x00evils',
            b'}\x86b.',
        )
    )
    import contextlib
    import io

    with contextlib.suppress(Exception):
        reading._SafeUnpickler(io.BytesIO(payload)).load()
    assert torch._utils._rebuild_tensor_v2.__name__ == name


def truncate(path, released, zipped=True):
    torch.save(
        dict(model=released), path, _use_new_zipfile_serialization=zipped
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_tar(path, released):
    with tarfile.open(path, 'w') as archive:
        archive.add(__file__)


BAD_FILES = {
    'truncated': (truncate, 'is truncated'),
    'truncated old format': (
        functools.partial(truncate, zipped=False),
        'truncated, damaged',
    ),
    'web page': (
        lambda p, s: p.write_text('\n<!DOCTYPE html><html>404</html>'),
        'a web page',
    ),
    'lfs pointer': (
        lambda p, s: p.write_text(
            'version https://git-lfs.github.com/spec/v1'
        ),
        'Git LFS pointer',
    ),
    'empty file': (lambda p, s: p.write_bytes(b''), 'is empty'),
    'empty dict': (lambda p, s: torch.save({}, p), 'no weights in it'),
    'no tensors': (
        lambda p, s: torch.save(dict(model=dict(a=1)), p),
        'no weights in it.*found a',
    ),
    'a list': (lambda p, s: torch.save([1], p), 'holds a list'),
    'damaged zip': (
        lambda p, s: p.write_bytes(
            b'PK\x03\x04' + bytes(99) + b'PK\x05\x06' + b'\xff' * 18
        ),
        'truncated|cannot be read',
    ),
    'tar': (make_tar, 'tar archive'),
    'noise': (lambda p, s: p.write_bytes(b'\x00\x93' * 99), 'cannot be read'),
    'torchscript': (
        lambda p, s: torch.jit.script(torch.nn.ReLU()).save(str(p)),
        'TorchScript',
    ),
    'absent': (lambda p, s: None, 'no checkpoint file'),
}


@pytest.mark.parametrize('kind', BAD_FILES)
def test_bad_files(kind, released, tiny, tmp_path):
    path = tmp_path / 'weights.pth'
    make, words = BAD_FILES[kind]
    make(path, released)
    with pytest.raises(CheckpointError, match=words) as error:
        weights.load_weights(tiny, path)
    assert str(path) in str(error.value)


# URLs ------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    return tmp_path / 'torch' / 'hub' / 'checkpoints'


def test_url_is_cached(released, tiny, tmp_path, cache):
    folder = tmp_path / 'served'
    folder.mkdir()
    torch.save(dict(model=released), folder / 'smt_tiny.pth')

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}/smt_tiny.pth'
        weights.load_weights(blank(tiny), url)
        assert holds(tiny, released)
        with pytest.raises(CheckpointError, match='404'):
            weights.fetch_checkpoint(url.replace('tiny', 'huge'))
        # Another file of the same name.
        (folder / 'run2').mkdir()
        (folder / 'run2/smt_tiny.pth').write_bytes(b'other')
        other = weights.fetch_checkpoint(url.replace('smt', 'run2/smt'))
        assert other.read_bytes() == b'other'
        assert other.name.startswith('smt_tiny-')
        server.shutdown()
    names = {path.name for path in cache.iterdir() if path.suffix == '.pth'}
    assert names == {'smt_tiny.pth', other.name}
    weights.load_weights(
        blank(tiny), url
    )  # from the cache: nobody serves it now
    assert holds(tiny, released)


def test_no_network(cache):
    url = 'http://127.0.0.1:9/smt_tiny.pth'
    with pytest.raises(CheckpointError) as error:
        weights.fetch_checkpoint(url)
    text = str(error.value)
    assert url in text
    assert str(cache / 'smt_tiny.pth') in text
    assert 'model.backbone.init_cfg=None' in text
    assert not list(cache.iterdir())


def test_released_urls():
    assert weights.RELEASED_WEIGHTS['small'] == (
        'https://github.com/AFeng-x/SMT/releases/download/v1.0.0/smt_small.pth'
    )
    assert set(SMT.ARCHS) - set(weights.RELEASED_WEIGHTS) == {
        'small-paper',
        'large',
    }


# Other input channels --------------------------------------------------------


@pytest.mark.parametrize('channels', [1, 2, 4, 7])
def test_adapted_first_convolution(released, tmp_path, channels):
    """A grey image, or one channel repeated, gives what RGB would."""
    path = tmp_path / 'tiny.pth'
    torch.save(dict(model=released), path)
    init_cfg = dict(type='Pretrained', checkpoint=str(path))
    model = SMT('tiny', in_channels=channels, init_cfg=init_cfg)
    with pytest.raises(
        weights.CheckpointError, match='adapt_in_channels=True'
    ):
        model.init_weights()
    model = SMT(
        'tiny',
        in_channels=channels,
        init_cfg=dict(init_cfg, adapt_in_channels=True),
    )
    model.init_weights()
    first = model.patch_embed1.conv1.weight
    given = released['patch_embed1.conv.0.weight']
    assert first.shape[1] == channels
    if channels % 3 == 1 and channels > 1:  # the first colour once more
        given = torch.cat([given] * (channels // 3 + 1), dim=1)[:, :channels]
        given = given * 3 / channels
    elif channels == 2:
        given = given[:, :2] * 1.5
    torch.testing.assert_close(first.sum(1), given.sum(1))
    image = torch.rand(1, channels, 64, 64)
    assert model.eval()(image)[3].isfinite().all()
