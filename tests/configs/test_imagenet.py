"""The classifiers of the ImageNet configs."""

from hashlib import sha256
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, TRANSFORMS
from support import golden
from support.configs import build, load

from mmsmt import weights
from mmsmt.hooks import WholeCheckpointHook

GOLDEN = dict(
    tiny='smt_t_in1k',
    small='smt_s_in1k',
    base='smt_b_in1k',
    **{'large-22k': 'smt_l_in1k_ft_224'},
)


@pytest.mark.parametrize('arch', GOLDEN)
def test_classifier_gives_golden_logits(arch):
    """A released file goes in as it is, head included, and is exact."""

    from mmengine.runner.checkpoint import _load_checkpoint_to_model

    case = golden.case(arch)
    cfg = load(GOLDEN[arch])
    model = build(cfg).eval()
    runner = SimpleNamespace(
        model=model,
        logger=SimpleNamespace(info=print, warning=print),
        cfg=SimpleNamespace(load_from='smt.pth', filename='config'),
    )
    file = dict(model=case['weights'], epoch=299)
    WholeCheckpointHook().after_load_checkpoint(runner, file)
    _load_checkpoint_to_model(model, file, strict=True)
    with torch.no_grad():
        logits = model(torch.from_numpy(case['input']), mode='tensor')
        if isinstance(logits, tuple):
            logits = model.head(logits)
    error = np.abs(logits.numpy() - case['logits']).max()
    assert error <= 1e-5 * np.abs(case['logits']).max()


@pytest.mark.parametrize('size', [224, 384])
def test_pre_processing_is_the_release_s(size):
    """Bicubic, 256 / 224 and the centre, or all of it at 384; ImageNet's mean
    and standard deviation."""
    from PIL import Image
    from torchvision import transforms as T
    from torchvision.transforms import InterpolationMode

    cfg = load('smt_t_in1k' if size == 224 else 'smt_l_in1k_ft_384')
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (9, 12, 3), np.uint8)
    image = Image.fromarray(coarse).resize((501, 333), Image.BICUBIC)
    bicubic = InterpolationMode.BICUBIC
    resize = (
        [T.Resize(256, bicubic), T.CenterCrop(224)]
        if size == 224
        else [T.Resize((384, 384), bicubic)]
    )
    normalize = T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    expected = T.Compose([*resize, T.ToTensor(), normalize])(image)

    for loader in ('val_dataloader', 'test_dataloader'):
        load_image, *steps = cfg[loader].dataset.pipeline
        assert load_image.type == 'LoadImageFromFile'
        results = dict(img=np.ascontiguousarray(np.asarray(image)[..., ::-1]))
        for step in steps:
            results = TRANSFORMS.build(step)(results)
        preprocessor = MODELS.build(
            dict(cfg.data_preprocessor, type='ClsDataPreprocessor')
        )
        got = preprocessor(dict(inputs=[results['inputs']]))['inputs'][0]
        assert got.shape == (3, size, size)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_fine_tuning_starts_from_the_22k_classifier(tmp_path):
    """Take the 1,000 classes' rows of 21,841, completely or not at all."""
    rows = weights.imagenet_22k_to_1k()
    digest = sha256(' '.join(map(str, rows)).encode()).hexdigest()
    assert len(rows) == 1000 and digest.startswith('64b3af4e3db74a16')
    head = load('smt_l_in1k_ft_224').model.head
    assert head.init_cfg.checkpoint.endswith('smt_large_22k.pth')
    weight = torch.arange(21841.0)[:, None].expand(-1, 768).contiguous()
    state = {'head.weight': weight, 'head.bias': torch.arange(21841.0)}
    path = tmp_path / 'smt_large_22k.pth'
    torch.save(dict(model=state), path)
    head.init_cfg.checkpoint = str(path)
    built = MODELS.build(head)
    built.init_weights()
    assert built.fc.bias.tolist() == rows
    assert built.fc.weight[:, 5].tolist() == rows

    # A file of one's own run names its classes, whatever their order.
    state = {
        f'head.fc.{n}': v
        for n, v in (('weight', weight), ('bias', weight[:, 0]))
    }
    synsets = weights.imagenet_22k_synsets()
    for order in (synsets, sorted(synsets)):
        meta = dict(dataset_meta=dict(classes=order))
        torch.save(dict(state_dict=state, meta=meta), path)
        built = MODELS.build(head)
        built.init_weights()
        taken = [order[int(row)] for row in built.fc.bias]
        assert taken == [synsets[row] for row in rows]
    meta = dict(dataset_meta=dict(classes=list(map(str, range(21841)))))
    torch.save(dict(state_dict=state, meta=meta), path)
    built = MODELS.build(head)
    with pytest.raises(weights.CheckpointError, match="not ImageNet-22K's"):
        built.init_weights()

    torch.save(dict(state_dict=state), path)
    with pytest.raises(weights.CheckpointError, match='names no classes'):
        built.init_weights()

    torch.save(
        dict(model={'head.weight': weight, 'head.bias': weight[:, 0]}), path
    )
    head.in_channels = 512
    built = MODELS.build(head)
    with pytest.raises(weights.CheckpointError, match='does not fit the'):
        built.init_weights()
    torch.save(dict(model={'norm4.weight': weight}), path)
    with pytest.raises(weights.CheckpointError, match='missing: weight'):
        built.init_weights()
