"""Images of any proportions in files that take one size. Needs mmdet."""

from mmdet.datasets.transforms import Resize

from mmsmt.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ResizeInto(Resize):
    """Resize an image, with its proportions, until one side fills a size.

    The hosts' ``Resize`` takes the larger number of a size for the longer
    side of an image, so that upright ones do not fit into a wide size.

    Args:
        scale (tuple[int, int]): Width and height to fit into.
    """

    def _resize_img(self, results: dict) -> None:
        height, width = results['img'].shape[:2]
        factor = min(self.scale[0] / width, self.scale[1] / height)
        results['scale'] = tuple(
            max(1, int(side * factor + 0.5)) for side in (width, height)
        )
        super()._resize_img(results)
