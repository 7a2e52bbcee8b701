"""The paper's Tables 1 to 6 and 14, every row and digit as printed.

Columns are separated by spaces; ``-`` is a cell that the paper leaves empty.
Table 5 was read from a text in which two of its rows (ATSS and DINO with R-50)
are shifted by a column and lost their last cell: these two are ``-`` too.
Parameters are in millions; FLOPs, as the paper calls them, are
multiply-accumulates in units of 10^9; accuracies are in per cent.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

Number = Decimal | None

BOX = {
    'AP^b': 'coco/bbox_mAP',
    'AP^b_50': 'coco/bbox_mAP_50',
    'AP^b_75': 'coco/bbox_mAP_75',
}
SIZES = {
    'AP_S': 'coco/bbox_mAP_s',
    'AP_M': 'coco/bbox_mAP_m',
    'AP_L': 'coco/bbox_mAP_l',
}
MASK = {
    'AP^m': 'coco/segm_mAP',
    'AP^m_50': 'coco/segm_mAP_50',
    'AP^m_75': 'coco/segm_mAP_75',
}
# The two columns of Table 6 are one metric, without and with test-time
# augmentation.
TTA = 'tta/'
MIOU = {'mIoU_ss': 'mIoU', 'mIoU_ms': TTA + 'mIoU'}
TOP1 = {'top-1': 'accuracy/top1'}
"""Metric names that the hosts log, by column of a table."""


class Row(NamedTuple):
    """One row of a table.

    Args:
        backbone (str): Name as printed, without the reference.
        size (tuple[int, int]): Height and width of the image for its FLOPs.
        parameters (Decimal | None): Parameters in millions.
        flops (Decimal | None): Multiply-accumulates in 10^9.
        scores (tuple[Decimal | None]): Accuracies in per cent: the metrics of
            the first schedule, then those of the next.
    """

    backbone: str
    size: tuple[int, int]
    parameters: Number
    flops: Number
    scores: tuple[Number, ...]

    @property
    def smt(self) -> str | None:
        """Letter of an SMT row (``SMT-S``: ``s``), None for other rows."""
        name, _, letter = self.backbone.partition('-')
        return letter.lower() if name == 'SMT' else None


class Part(NamedTuple):
    """A table, or a part of one with its own columns.

    Args:
        table (int): Number of the table.
        title (str): Task or model, and dataset.
        host (str): The package that builds its models.
        config (str): Names of our configs, with ``{letter}``, ``{schedule}``
            and ``{pixels}`` to be filled in.
        schedules (tuple[str]): Schedules, as in the names of our configs.
        metrics (dict[str, str]): Logged name of each column, the table's main
            metric first.
        rows (tuple[Row]): Rows from top to bottom.
    """

    table: int
    title: str
    host: str
    config: str
    schedules: tuple[str, ...]
    metrics: dict[str, str]
    rows: tuple[Row, ...]

    def configs(self, row: Row) -> list[str]:
        """Return our configs of an SMT row, one for each schedule."""
        return [
            self.config.format(
                letter=row.smt, schedule=schedule, pixels=row.size[0]
            )
            for schedule in self.schedules
        ]

    def scores(self, row: Row, schedule: str) -> dict[str, Number]:
        """Return the accuracies of a row under a schedule, by column."""
        start = self.schedules.index(schedule) * len(self.metrics)
        return dict(zip(self.metrics, row.scores[start:]))


def _number(text: str) -> Number:
    return None if text == '-' else Decimal(text)


def _rows(text: str, size: tuple[int, int] | None = None) -> tuple[Row, ...]:
    """Read lines of backbone, parameters, FLOPs and accuracies.

    Without ``size``, the second column is the image size; of two sizes, such
    as 224/384, the second is used in fine-tuning and for the FLOPs.
    """
    rows = []
    for line in text.strip().splitlines():
        name, *cells = line.split()
        if size is None:
            pixels = int(cells.pop(0).split('/')[-1])
        parameters, flops, *scores = map(_number, cells)
        rows.append(
            Row(
                name,
                size or (pixels, pixels),
                parameters,
                flops,
                tuple(scores),
            )
        )
    return tuple(rows)


def iter_smt_scores() -> Iterator[tuple[str, dict[str, Decimal]]]:
    """Yield our configs, and the paper's figures of each by logged name."""
    for part in PARTS:
        for row in filter(lambda row: row.smt, part.rows):
            for config, schedule in zip(part.configs(row), part.schedules):
                scores = part.scores(row, schedule).items()
                yield (
                    config,
                    {
                        part.metrics[column]: value
                        for column, value in scores
                        if value is not None
                    },
                )


# FLOPs are for an image of 1280 x 800 in detection, of 2048 x 512 in
# segmentation, according to the reproduced cells; the paper does not state it.
COCO = (800, 1280)
ADE20K = (512, 2048)

PARTS: tuple[Part, ...] = (
    Part(
        1,
        'ImageNet-1K classification',
        'mmpretrain',
        'smt_{letter}_in1k',
        ('300 epochs',),
        TOP1,
        _rows("""
            RegNetY-1.6G       224 11.2 1.6  78.0
            EffNet-B3          300 12   1.8  81.6
            PVTv2-b1           224 13.1 2.1  78.7
            EfficientFormer-L1 224 12.3 1.3  79.2
            Shunted-T          224 11.5 2.1  79.8
            Conv2Former-N      224 15   2.2  81.5
            SMT-T              224 11.5 2.4  82.2
            RegNetY-4G         224 21   4.0  80.0
            EffNet-B4          380 19   4.2  82.9
            DeiT-S             224 22   4.6  79.8
            Swin-T             224 29   4.5  81.3
            ConvNeXt-T         224 29   4.5  82.1
            PVTv2-b2           224 25.0 4.0  82.0
            Focal-T            224 29.1 4.9  82.2
            Shunted-S          224 22.4 4.9  82.9
            CMT-S              224 25.1 4.0  83.5
            FocalNet-T         224 28.6 4.5  82.3
            Conv2Former-T      224 27   4.4  83.2
            HorNet-T           224 23   4.0  83.0
            InternImage-T      224 30   5.0  83.5
            MaxViT-T           224 31   5.6  83.6
            SMT-S              224 20.5 4.7  83.7
            RegNetY-8G         224 39   8.0  81.7
            EffNet-B5          456 30   9.9  83.6
            Swin-S             224 49.6 8.7  83.0
            CoAtNet-1          224 42   8.0  83.3
            PVTv2-b4           224 63   10.0 83.6
            SwinV2-S/8         256 50   12.0 83.7
            PoolFormer-m36     224 56.2 8.8  82.1
            Shunted-B          224 39.6 8.1  84.0
            InternImage-S      224 50.0 8.0  84.2
            Conv2Former-S      224 50.0 8.7  84.1
            Swin-B             224 87.8 15.4 83.4
            ConvNeXt-B         224 89   15.4 83.8
            Focal-B            224 89.8 16.4 83.8
            FocalNet-B         224 88.7 15.4 83.9
            HorNet-B           224 87   15.6 84.2
            SMT-B              224 32.0 7.7  84.3
        """),
    ),
    Part(
        2,
        'ImageNet-1K fine-tuning from ImageNet-22K',
        'mmpretrain',
        'smt_{letter}_in1k_ft_{pixels}',
        ('30 epochs',),
        TOP1,
        _rows("""
            ViT-B/16       384     86.0  55.4  84.0
            ViT-L/16       384     307.0 190.7 85.2
            Swin-Large     224/224 196.5 34.5  86.3
            Swin-Large     384/384 196.5 104.0 87.3
            FocalNet-Large 224/224 197.1 34.2  86.5
            FocalNet-Large 224/384 197.1 100.6 87.3
            InternImage-L  224/384 223   108   87.7
            InternImage-XL 224/384 335   163   88.0
            SMT-L          224/224 80.5  17.7  87.1
            SMT-L          224/384 80.5  54.6  88.1
        """),
    ),
    Part(
        3,
        'Mask R-CNN on COCO',
        'mmdet',
        'mask_rcnn_smt_{letter}_{schedule}',
        ('1x', '3x'),
        BOX | MASK,
        _rows(
            """
            ResNet50    44.2  260 38.0 58.6 41.4 34.4 55.1 36.7 41.0 61.7 44.9 37.1 58.4 40.1
            Twins-SVT-S 44.0  228 43.4 66.0 47.3 40.3 63.2 43.4 46.8 69.2 51.2 42.6 66.3 45.8
            Swin-T      47.8  264 42.2 64.6 46.2 39.1 61.6 42.0 46.0 68.2 50.2 41.6 65.1 44.8
            PVTv2-B2    45.0  -   45.3 67.1 49.6 41.2 64.2 44.4 -    -    -    -    -    -
            Focal-T     48.8  291 44.8 67.7 49.2 41.0 64.7 44.2 47.2 69.4 51.9 42.7 66.5 45.9
            CMT-S       44.5  249 44.6 66.8 48.9 40.7 63.9 43.4 -    -    -    -    -    -
            FocalNet-T  48.9  268 46.1 68.2 50.6 41.5 65.1 44.5 48.0 69.7 53.0 42.9 66.5 46.1
            SMT-S       40.0  265 47.8 69.5 52.1 43.0 66.6 46.1 49.0 70.1 53.4 43.4 67.3 46.7
            ResNet101   63.2  336 40.4 61.1 44.2 36.4 57.7 38.8 42.8 63.2 47.1 38.5 60.1 41.3
            Swin-S      69.1  354 44.8 66.6 48.9 40.9 63.4 44.2 48.5 70.2 53.5 43.3 67.3 46.6
            Swin-B      107.1 497 46.9 69.2 51.6 42.3 66.0 45.5 48.5 69.8 53.2 43.4 66.8 46.9
            Twins-SVT-B 76.3  340 45.2 67.6 49.3 41.5 64.5 44.8 48.0 69.5 52.7 43.0 66.8 46.6
            PVTv2-B4    82.2  -   47.5 68.7 52.0 42.7 66.1 46.1 -    -    -    -    -    -
            Focal-S     71.2  401 47.4 69.8 51.9 42.8 66.6 46.1 48.8 70.5 53.6 43.8 67.7 47.2
            FocalNet-S  72.3  365 48.3 70.5 53.1 43.1 67.4 46.2 49.3 70.7 54.2 43.8 67.9 47.4
            SMT-B       51.7  328 49.0 70.2 53.7 44.0 67.6 47.4 49.8 71.0 54.4 44.0 68.0 47.3
            """,  # noqa: E501
            COCO,
        ),
    ),
    Part(
        4,
        'Cascade Mask R-CNN on COCO',
        'mmdet',
        'cascade_mask_rcnn_smt_{letter}_{schedule}',
        ('3x',),
        BOX | MASK,
        _rows(
            """
            ResNet50   82.0 739 46.3 64.3 50.5 40.1 61.7 43.4
            Swin-T     86.0 745 50.5 69.3 54.9 43.7 66.6 47.1
            ConvNeXt   -    741 50.4 69.1 54.8 43.7 66.5 47.3
            Shuffle-T  86.0 746 50.8 69.6 55.1 44.1 66.9 48.0
            FocalNet-T 87.1 751 51.5 70.3 56.0 -    -    -
            SMT-S      77.9 744 51.9 70.5 56.3 44.7 67.8 48.6
            """,
            COCO,
        ),
    ),
    Part(
        4,
        'RetinaNet on COCO',
        'mmdet',
        'retinanet_smt_{letter}_{schedule}',
        ('3x',),
        BOX | SIZES,
        _rows(
            """
            ResNet50  37.7 240 39.0 58.4 41.8 22.4 42.8 51.6
            Swin-T    38.5 245 45.0 65.9 48.4 29.7 48.9 58.1
            Focal-T   39.4 265 45.5 66.3 48.8 31.2 49.2 58.7
            Shunted-S 32.1 -   46.4 66.7 50.4 31.0 51.0 60.8
            SMT-S     30.1 247 47.3 67.8 50.5 32.5 51.1 62.3
            """,
            COCO,
        ),
    ),
    Part(
        5,
        'Sparse R-CNN on COCO',
        'mmdet',
        'sparse_rcnn_smt_{letter}_{schedule}',
        ('3x',),
        BOX,
        _rows(
            """
            R-50       106.1 166 44.5 63.4 48.2
            Swin-T     109.7 172 47.9 67.3 52.3
            Focal-T    110.8 196 49.0 69.1 53.2
            FocalNet-T 111.2 178 49.9 69.6 54.4
            SMT-S      102.0 171 50.2 69.8 54.7
            """,
            COCO,
        ),
    ),
    Part(
        5,
        'ATSS on COCO',
        'mmdet',
        'atss_smt_{letter}_{schedule}',
        ('3x',),
        BOX,
        _rows(
            """
            R-50       32.1 205 43.5 61.9 -
            Swin-T     35.7 212 47.2 66.5 51.3
            Focal-T    36.8 239 49.5 68.8 53.9
            FocalNet-T 37.2 220 49.6 68.7 54.5
            SMT-S      28.0 214 49.9 68.9 54.7
            """,
            COCO,
        ),
    ),
    Part(
        5,
        'DINO-4scale on COCO',
        'mmdet',
        'dino_smt_{letter}_{schedule}',
        ('1x',),
        BOX,
        _rows(
            """
            R-50   47.7 244 49.2 66.7 -
            Swin-T 48.2 252 51.3 69.0 55.9
            Swin-S 69.5 332 53.0 71.2 57.6
            SMT-S  39.9 309 54.0 71.9 59.0
            """,
            COCO,
        ),
    ),
    Part(
        6,
        'UperNet on ADE20K',
        'mmseg',
        'upernet_smt_{letter}_{schedule}',
        ('160k',),
        MIOU,
        _rows(
            """
            ResNet-101  86   1029 44.9 -
            DeiT-S      52   1099 44.0 -
            Swin-T      60   941  44.5 45.8
            Focal-T     62   998  45.8 47.0
            FocalNet-T  61   949  46.8 47.8
            Swin-S      81   1038 47.6 49.5
            ConvNeXt-S  82   1027 49.6 -
            Shunted-S   52   940  48.9 49.9
            FocalNet-S  84   1044 49.1 50.1
            Focal-S     85   1130 48.0 50.0
            Swin-B      121  1188 48.1 49.7
            Twins-SVT-L 133  -    48.8 50.2
            Focal-B     126  1354 49.0 50.5
            SMT-S       50.1 935  49.2 50.2
            SMT-B       61.8 1004 49.6 50.6
            """,
            ADE20K,
        ),
    ),
    Part(
        14,
        'ImageNet-1K classification, more variants',
        'mmpretrain',
        'smt_{letter}_in1k',
        ('300 epochs',),
        TOP1,
        _rows("""
            RegNetY-4G  224 21   4.0  80.0
            RegNetY-8G  224 39   8.0  81.7
            RegNetY-16G 224 84   16.0 82.9
            EffNet-B3   300 12   1.8  81.6
            EffNet-B4   380 39   4.2  82.9
            EffNet-B5   456 30   9.9  83.6
            EffNet-B6   528 43   19.0 84.0
            PVT-T       224 13   1.8  75.1
            PVT-S       224 25   3.8  79.8
            PVT-M       224 44   6.7  81.2
            PVT-L       224 61   9.8  81.7
            Swin-T      224 29   4.5  81.3
            Swin-S      224 49.6 8.7  83.0
            Swin-B      224 87.8 15.4 83.4
            Twins-S     224 24   2.9  81.7
            Twins-B     224 56   8.6  83.2
            Focal-T     224 29   4.9  82.2
            Focal-B     224 89.8 16.4 83.8
            Shunted-T   224 11.5 2.1  79.8
            Shunted-S   224 22.4 4.9  82.9
            Shunted-B   224 39.6 8.1  84.0
            FocalNet-T  224 28.6 4.5  82.3
            FocalNet-S  224 50.3 8.7  83.5
            FocalNet-B  224 88.7 15.4 83.9
            MaxViT-T    224 31   5.6  83.6
            MaxViT-S    224 69   11.7 84.5
            MaxViT-B    224 120  23.4 84.9
            SMT-M       224 6.5  1.3  78.4
            SMT-T       224 11.5 2.4  82.2
            SMT-S       224 20.5 4.7  83.7
            SMT-B       224 32.0 7.7  84.3
            SMT-L       224 80.5 17.7 84.6
        """),
    ),
)
