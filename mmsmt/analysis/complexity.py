"""Count parameters and multiply-accumulates (MACs) of a model, in two ways.

All MACs: every multiplication in convolutions, linear layers and matrix
products, including attention's QK^T and AV. Biases, norms, activations,
interpolation and sampling are excluded. Counted by torch's FlopCounterMode,
in which a MAC is two FLOPs.

Paper-style: the count of the tools of MMDetection 2 and MMSegmentation 0.x,
which the paper's detection and segmentation tables report. Their counter
(still in mmcv: ``mmcv.cnn.utils.flops_counter``) covers modules only: it
counts convolutions with their bias, linear layers, norms, ReLU and pooling,
and omits functions, in particular QK^T and AV.

Two other counters are unsuitable: mmengine's (``mmengine.analysis``) counts
norms as products but omits ``scaled_dot_product_attention``, and
FlopCounterMode by default omits attention that runs as the CPU's own kernel
(torch 2.2 and later).

Models are counted on the meta device, where tensors have shapes but no data,
so that counting takes a second at any resolution.
"""

from collections.abc import Callable, Iterable
from math import prod
from typing import Any, NamedTuple
from unittest import mock

import torch
from mmcv.cnn.utils.flops_counter import get_modules_mapping
from mmcv.ops import multi_scale_deform_attn
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmsmt.models.embedding import Stem

# Numbers of proposals with which MMDetection 2 counted two-stage detectors.
BOX_PROPOSALS = 1000
MASK_PROPOSALS = 100


class Complexity(NamedTuple):
    """Costs of a model.

    Args:
        parameters (int): Number of parameters, trained and frozen.
        macs (int): All MACs of one image.
        paper_style (int): Paper-style MACs of one image.
    """

    parameters: int
    macs: int
    paper_style: int


def count_complexity(model: nn.Module, size: tuple[int, int]) -> Complexity:
    """Count the costs of a host's model or of a bare backbone.

    Heads are counted up to their raw outputs; those of two-stage detectors
    process 1000 box proposals (in Sparse R-CNN, its own number) and 100 mask
    proposals. Heads used in training only count as parameters, not as MACs.

    Args:
        model (nn.Module): A detector of mmdet, a segmenter of mmseg, a
            classifier of mmpretrain, or a module that takes an image. Its
            weights are discarded.
        size (tuple[int, int]): Height and width of the image, in pixels.
    """
    # FlopCounterMode fails on views of parameters that require gradients.
    model.requires_grad_(False)
    parameters = sum(p.numel() for p in model.parameters())
    seen = _count_modules(model)
    macs = count(lambda: _run(model, size))
    return Complexity(parameters, macs, seen())


def count(run: Callable[[], object]) -> int:
    """Count the MACs of a function, on any device."""
    counter = FlopCounterMode(display=False, custom_mapping=_NOT_IN_TORCH)
    with counter, torch.no_grad():
        run()
    return counter.get_total_flops() // 2


# Products --------------------------------------------------------------------


def _attention_flops(
    query: tuple, key: tuple, value: tuple, *args: Any, **kwargs: Any
) -> int:
    """Count QK^T and AV, from shapes (B, heads, N, C)."""
    return 2 * prod(query[:3]) * key[2] * (query[3] + value[3])


# In torch 2.2 and later; FlopCounterMode has no formula for it.
_KERNEL = '_scaled_dot_product_flash_attention_for_cpu'
_NOT_IN_TORCH = (
    {getattr(torch.ops.aten, _KERNEL): _attention_flops}
    if hasattr(torch.ops.aten, _KERNEL)
    else {}
)


# Modules ---------------------------------------------------------------------


def _stem_relu(module: Any, inputs: tuple, output: Tensor) -> None:
    """Count the stem's functional ReLU at stride 2, as a forward hook."""
    batch, _, height, width = inputs[0].shape
    pixels = -(-height // 2) * -(-width // 2)
    module.__flops__ += batch * pixels * module.conv1.out_channels


def _count_modules(model: nn.Module) -> Callable[[], int]:
    """Attach mmcv's counter; return a function that reads it."""
    hooks = {**get_modules_mapping(), Stem: _stem_relu}
    seen: list[Any] = []
    module: Any  # mmcv's counter adds an attribute
    for module in model.modules():
        # mmcv's table lacks the classes that the hosts derive from
        # convolutions and norms.
        kind = next((c for c in type(module).__mro__ if c in hooks), None)
        if kind:
            module.__flops__ = 0
            module.register_forward_hook(hooks[kind])
            seen.append(module)
    return lambda: sum(module.__flops__ for module in seen)


# Forward passes --------------------------------------------------------------


class _Ready(nn.Module):
    """Backbone that returns fixed maps."""

    def __init__(self, maps: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the fixed maps for any image."""
        return self.maps


def _run(model: Any, size: tuple[int, int]) -> None:
    image = torch.empty(1, 3, *size, device='meta')
    detr = hasattr(model, 'forward_transformer')
    (model.backbone if detr else model).to('meta')
    # After the move: in eval() some backbones store products of weights.
    model.eval()
    if detr:
        _run_detr(model, image)
    elif hasattr(model, 'roi_head'):
        _run_two_stage(model, image)
    elif hasattr(model, 'backbone'):
        model(image, mode='tensor')
    else:
        model(image)


def _run_two_stage(model: Any, image: Tensor) -> None:
    """Run like MMDetection 2's ``forward_dummy``, on fixed proposals."""
    maps = model.extract_feat(image)
    sparse = hasattr(model.rpn_head, 'num_proposals')
    if sparse:
        boxes = model.rpn_head.num_proposals
        features = model.rpn_head.init_proposal_features.weight[None]
    else:
        boxes = BOX_PROPOSALS
        model.rpn_head(maps)

    def crops(extractor: Any, number: int) -> Tensor:
        size = extractor.roi_layers[0].output_size
        return maps[0].new_empty(number, extractor.out_channels, *size)

    roi = model.roi_head
    stages = zip(_each(roi.bbox_roi_extractor), _each(roi.bbox_head))
    for extractor, head in stages:
        if sparse:
            features = head(crops(extractor, boxes), features)[2]
        else:
            head(crops(extractor, boxes))
    if roi.with_mask:
        stages = zip(_each(roi.mask_roi_extractor), _each(roi.mask_head))
        for extractor, head in stages:
            head(crops(extractor, MASK_PROPOSALS))


def _each(module: nn.Module) -> Iterable[nn.Module]:
    return module if isinstance(module, nn.ModuleList) else [module]


def _run_detr(model: Any, image: Tensor) -> None:
    """Run the backbone on the meta device and the rest on the CPU."""
    from mmdet.structures import DetDataSample

    maps = model.backbone(image)
    model.backbone = _Ready(tuple(torch.zeros(x.shape) for x in maps))
    size = tuple(image.shape[2:])
    sample = DetDataSample(
        metainfo=dict(img_shape=size, batch_input_shape=size)
    )

    def no_sampling(
        value: Tensor, shapes: Any, locations: Tensor, weights: Any
    ) -> Tensor:
        return value.new_zeros(*locations.shape[:2], prod(value.shape[2:]))

    # Sampling is not counted and would take most of the time.
    with mock.patch.object(
        multi_scale_deform_attn,
        'multi_scale_deformable_attn_pytorch',
        no_sampling,
    ):
        model(torch.zeros(image.shape), [sample], mode='tensor')
