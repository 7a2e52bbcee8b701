"""ImageNet-22K with the labels of the released weights."""

import json
from collections.abc import Iterable
from typing import Any

from mmengine.fileio import get_text, join_path
from mmpretrain.datasets import CustomDataset
from mmpretrain.datasets.custom import find_folders

from mmsmt.registry import DATASETS
from mmsmt.weights import imagenet_22k_synsets
from mmsmt.weights.reading import summarize

from .files import DataError

SYNSETS = imagenet_22k_synsets()
LABELS = {name: label for label, name in enumerate(SYNSETS)}


@DATASETS.register_module()
class ImageNet22K(CustomDataset):
    """ImageNet-22K (fall 2011) of mmpretrain, labelled as in the release.

    mmpretrain's ``ImageNet21k`` labels the folders in their sorted order,
    which differs for 12,636 of the 21,841 classes.

    Args:
        ann_file (str): List of images: JSON, ``[[PATH, LABEL], ...]``, as
            Swin's ``ILSVRC2011fall_whole_map_train.txt``, or mmpretrain's
            lines ``PATH LABEL``. Each image is in the folder of its synset,
            with which its label must agree. Defaults to ``''``: the folders
            in ``data_prefix``, all 21,841.
        **kwargs: See mmpretrain's ``CustomDataset``.

    Raises:
        DataError: The folders are not the 21,841, or a label is not that of
            the image's folder.
    """

    METAINFO = {'classes': SYNSETS}
    labels_by_name = True
    """Labels do not follow from the order of the folders."""

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read the paths and labels."""
        if not self.ann_file or not self.with_label:
            return super().load_data_list()
        text = get_text(self.ann_file)
        try:
            if text.lstrip()[:1] == '[':
                samples = json.loads(text)
            else:
                lines = filter(str.strip, text.splitlines())
                samples = [line.strip().rsplit(maxsplit=1) for line in lines]
            samples = [(str(path), int(label)) for path, label in samples]
        except ValueError as error:
            raise DataError(
                f"'{self.ann_file}' is no list of images: {error}. Expected "
                'JSON, [[PATH, LABEL], ...], or lines "PATH LABEL".'
            ) from None
        self._check_labels(samples)
        return [
            dict(img_path=join_path(self.img_prefix, path), gt_label=label)
            for path, label in samples
        ]

    def _check_labels(self, samples: Iterable[tuple[str, int]]) -> None:
        """Compare the labels of a list with the folders of its images."""
        for number, (path, label) in enumerate(samples, 1):
            folder = path.replace('\\', '/').split('/')[-2:-1]
            right = LABELS.get(folder[0]) if folder else None
            if right != label:
                what = (
                    f'that folder has label {right}'
                    if right is not None
                    else 'that folder is no synset of ImageNet-22K'
                )
                raise DataError(
                    f"'{self.ann_file}', image {number}: '{path}' is given "
                    f'label {label}, but by the order of the released weights '
                    f'{what}.'
                )

    def _find_samples(self) -> list[tuple[str, int]]:
        """Find the images in the folders of the synsets."""
        if not self.with_label:
            return super()._find_samples()
        found = find_folders(self.img_prefix)[0]
        missing = sorted(set(SYNSETS).difference(found))
        others = sorted(set(found).difference(SYNSETS))
        if missing or others:
            raise DataError(
                f"'{self.img_prefix}' is not ImageNet-22K of fall 2011, whose "
                'labels the released weights have: of its 21,841 folders '
                f'{len(missing)} are missing ({summarize(missing) or "none"})'
                f', {len(others)} are others ({summarize(others) or "none"}).'
                "\nFor other classes use mmpretrain's CustomDataset, and set "
                'num_classes of model.head and data_preprocessor.'
            )
        samples = super()._find_samples()
        self.folder_to_idx = LABELS
        return [
            (path, LABELS[path.replace('\\', '/').split('/')[0]])
            for path, _ in samples
        ]
