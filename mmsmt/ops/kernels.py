"""Operators by mmcv's names."""

from collections.abc import Callable

import torch

from . import boxes, deform, losses, maps, roi
from .common import torchvision


class MissingOperator(NotImplementedError):
    """Error for an mmcv operator that is not compiled or replaced."""


# Callers of the operators that are not replaced, by the start of their names.
# No config of this project needs them.
_USERS = {
    'active_rotated_filter': "mmrotate's S2ANet and ReDet",
    'assign_score_withk': "mmdet3d's PAConv",
    'ball_query': "mmdet3d's point networks",
    'bezier_align': "mmocr's ABCNet",
    'bias_act': "mmagic's StyleGAN",
    'border_align': 'BorderDet',
    'box_iou_quadri': "mmrotate's quadrilateral boxes",
    'box_iou_rotated': "mmrotate's detectors",
    'chamfer_distance': 'point networks of mmdet3d',
    'contour_expand': "mmocr's PSENet",
    'convex_': "mmrotate's convex boxes",
    'correlation': "mmflow's FlowNet and PWC-Net",
    'diff_iou_rotated': 'rotated IoU losses of mmrotate and mmdet3d',
    'dynamic_': "mmdet3d's voxel networks",
    'filtered_lrelu': "mmagic's StyleGAN 3",
    'furthest_point_sampling': "mmdet3d's point networks",
    'fused_': "mmagic's StyleGAN 2 and mmdet3d's sparse convolutions",
    'gather_points': "mmdet3d's point networks",
    'get_indice': "mmdet3d's sparse convolutions",
    'group_points': "mmdet3d's point networks",
    'hard_voxelize': "mmdet3d's voxel networks",
    'indice_': "mmdet3d's sparse convolutions",
    'iou3d': "mmdet3d's box heads",
    'knn': "mmdet3d's point networks",
    'line_nms': "mmdet's CLRNet",
    'min_area_polygons': "mmrotate's Rotated RepPoints",
    'nms_quadri': "mmrotate's quadrilateral boxes",
    'nms_rotated': "mmrotate's detectors",
    'pixel_group': "mmocr's PAN",
    'points_in_boxes': "mmdet3d's box heads",
    'points_in_polygons': "mmrotate's assigners",
    'prroi_pool': 'PrRoIPool (no stock config of mmdet)',
    'riroi_align_rotated': "mmrotate's ReDet",
    'roi_align_rotated': "mmrotate's two-stage detectors",
    'roiaware_pool3d': "mmdet3d's PartA2",
    'roipoint_pool3d': "mmdet3d's PointRCNN",
    'rotated_feature_align': "mmrotate's R3Det and S2ANet",
    'stack_': "mmdet3d's PV-RCNN",
    'sync_bn': "norms of type 'MMSyncBN', as in mmdet's strong_baselines "
    "and simple_copy_paste (the type 'SyncBN' is PyTorch's and works)",
    'three_': "mmdet3d's point networks",
    'tin_shift': "mmaction's TIN",
    'upfirdn2d': "mmagic's StyleGAN 2",
}


def get_compiler_version() -> str:
    """Return torchvision's version, instead of a compiler's."""
    return f'none (torchvision {torchvision.__version__})'


def get_compiling_cuda_version() -> str:
    """Return the CUDA version of torchvision's kernels, such as ``'13.0'``."""
    cuda = getattr(torchvision.version, 'cuda', None)  # 13000; CPU: missing
    if not cuda or not torch.cuda.is_available():
        return 'not available'
    return f'{int(cuda) // 1000}.{int(cuda) % 1000 // 10}'


_KERNELS: dict[str, Callable] = {
    function.__name__: function
    for function in (
        *(boxes.nms, boxes.softnms, boxes.nms_match, boxes.bbox_overlaps),
        *(roi.roi_align_forward, roi.roi_align_backward),
        *(roi.roi_pool_forward, roi.roi_pool_backward),
        *(roi.deform_roi_pool_forward, roi.deform_roi_pool_backward),
        *(deform.deform_conv_forward, deform.deform_conv_backward_input),
        deform.deform_conv_backward_parameters,
        deform.modulated_deform_conv_forward,
        deform.modulated_deform_conv_backward,
        *(deform.ms_deform_attn_forward, deform.ms_deform_attn_backward),
        losses.sigmoid_focal_loss_forward,
        losses.sigmoid_focal_loss_backward,
        losses.softmax_focal_loss_forward,
        losses.softmax_focal_loss_backward,
        *(maps.carafe_naive_forward, maps.carafe_naive_backward),
        *(maps.carafe_forward, maps.carafe_backward),
        *(maps.masked_im2col_forward, maps.masked_col2im_forward),
        *(maps.psamask_forward, maps.psamask_backward),
        *(get_compiler_version, get_compiling_cuda_version),
    )
}
if hasattr(torch.ops.torchvision, 'box_iou_rotated'):
    _KERNELS['box_iou_rotated'] = boxes.box_iou_rotated
    _KERNELS['nms_rotated'] = boxes.nms_rotated


def find_kernel(name: str) -> Callable:
    """Return the function that computes mmcv's operator ``name``.

    Raises:
        MissingOperator: The operator has to be compiled; the message names
            its callers and the commands to compile it.
    """
    if name in _KERNELS:
        return _KERNELS[name]
    users = [who for start, who in _USERS.items() if name.startswith(start)]
    needed = f' It is called by {users[0]}.' if users else ''
    raise MissingOperator(
        f"mmcv's operator '{name}' is not compiled here, and torchvision "
        f'{torchvision.__version__} has none to compute it.{needed} No config '
        'of mmsmt needs it. The compiled one: python3 tools/setup_env.py '
        '--compile in a checkout of mmsmt (it needs a C++ compiler and '
        "Python's headers, and nvcc for a GPU), or mmcv's own build: "
        'https://mmcv.readthedocs.io/en/latest/get_started/build.html'
    )
