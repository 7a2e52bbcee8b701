"""Archs of SMT (Table 13), and checks of user-defined ones."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields

from .checks import check_int

AGGREGATIONS = ('saa', 'none')
STACKINGS: dict[str, Callable[[int, int], bool]] = {
    'alternate': lambda block, depth: block % 2 == 0,
    'halves': lambda block, depth: block < depth / 2,
    'sam': lambda block, depth: True,
    'msa': lambda block, depth: False,
}
"""Whether a block of the third stage is a SAM block, by number of the block
and of all blocks (Section 3.3, Table 9)."""


@dataclass(frozen=True)
class Arch:
    """Sizes of an SMT; tuples of four have a value per stage.

    Args:
        embed_dims (tuple[int, ...]): Channels of the four stages.
        depths (tuple[int, ...]): Blocks of the four stages.
        mlp_ratios (tuple[float, ...]): Ratios of the feed-forward's hidden
            channels to the channels of the stage.
        stem_kernel_size (int): Kernel size of the first convolution, odd.
        sam_heads (int): Heads N of the mixed convolution (Eq. 1).
        expand_ratio (int): Expansion of the aggregation (Eq. 2).
        msa_heads (tuple[int, int]): Attention heads of stages 3 and 4.
        aggregation (str): ``saa``, or ``none``: the heads of the mixed
            convolution side by side are the modulator (Table 8).
        stacking (str): Blocks of the third stage (Table 9): ``alternate``
            SAM and MSA blocks, first SAM then MSA ``halves``, or all ``sam``
            or ``msa``.

    Raises:
        TypeError: A value that must be an int is of another type.
        ValueError: A value is out of its range, or the heads do not divide
            the channels.
    """

    embed_dims: tuple[int, ...]
    depths: tuple[int, ...]
    mlp_ratios: tuple[float, ...]
    stem_kernel_size: int
    sam_heads: int = 4
    expand_ratio: int = 2
    msa_heads: tuple[int, ...] = (8, 16)
    aggregation: str = 'saa'
    stacking: str = 'alternate'

    def __post_init__(self) -> None:
        for name, length in dict(
            embed_dims=4, depths=4, mlp_ratios=4, msa_heads=2
        ).items():
            values = getattr(self, name)
            if (
                not isinstance(values, (list, tuple))
                or len(values) != length
                or not all(isinstance(v, (int, float)) for v in values)
                or min(values) <= 0
            ):
                raise ValueError(
                    f"arch['{name}'] must be {length} positive numbers, "
                    f'got {values!r}'
                )
            if name != 'mlp_ratios':
                for value in values:
                    check_int(f"arch['{name}']", value, 1)
            object.__setattr__(self, name, tuple(values))
        for name in ('stem_kernel_size', 'sam_heads', 'expand_ratio'):
            check_int(f"arch['{name}']", getattr(self, name), 1)
        if self.stem_kernel_size % 2 == 0:
            raise ValueError(
                "arch['stem_kernel_size'] must be odd, got "
                f'{self.stem_kernel_size}'
            )
        for name, choices in dict(
            aggregation=AGGREGATIONS, stacking=STACKINGS
        ).items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"arch['{name}'] must be one of {', '.join(choices)}, got "
                    f'{getattr(self, name)!r}'
                )
        sam, msa = self.sam_heads, self.msa_heads
        heads = [(sam,), (sam,), (sam, msa[0]), (msa[1],)]
        for dims, divisors in zip(self.embed_dims, heads):
            if any(dims % divisor for divisor in divisors):
                raise ValueError(
                    f'embed_dims {self.embed_dims} must divide by the number '
                    f'of heads: sam_heads {sam} in stages 1 to 3, msa_heads '
                    f'{msa} in stages 3 and 4'
                )

    def is_sam(self, stage: int, block: int) -> bool:
        """Check whether a block, of a stage 0 to 3, is a SAM block."""
        if stage == 2:
            return STACKINGS[self.stacking](block, self.depths[2])
        return stage < 2


ARCHS: dict[str, Arch] = {
    'tiny': Arch((64, 128, 256, 512), (2, 2, 8, 1), (4, 4, 4, 2), 3),
    'small': Arch((64, 128, 256, 512), (3, 4, 18, 2), (4, 4, 4, 2), 3),
    'small-paper': Arch((64, 128, 256, 512), (3, 4, 18, 1), (4, 4, 4, 2), 7),
    'base': Arch((64, 128, 256, 512), (4, 6, 28, 2), (8, 6, 4, 2), 7),
    'large': Arch((96, 192, 384, 768), (4, 6, 28, 4), (8, 6, 4, 2), 7),
}
"""Archs by name.

============= ===================== ============ ======== ==== ==========
Name          embed_dims            depths       ratios   stem parameters
============= ===================== ============ ======== ==== ==========
tiny          64, 128, 256, 512     2, 2, 8, 1   4 4 4 2  3    10.994 M
small         64, 128, 256, 512     3, 4, 18, 2  4 4 4 2  3    22.038 M
small-paper   64, 128, 256, 512     3, 4, 18, 1  4 4 4 2  7    19.927 M
base          64, 128, 256, 512     4, 6, 28, 2  8 6 4 2  7    31.524 M
large         96, 192, 384, 768     4, 6, 28, 4  8 6 4 2  7    79.821 M
============= ===================== ============ ======== ==== ==========

There are two SMT-S: ``small`` has released weights; ``small-paper`` has none
and is that of Table 13, whose size the paper's detection and segmentation
tables report. Table 13 prints depth 3 for the last stage of SMT-L; only 4
gives its 80.5 M. SMT-M is omitted: its row in Table 13 has 7.85 M parameters,
not the 6.5 M of Table 14, and no weights exist.
"""


def parse_arch(arch: str | dict | Arch) -> Arch:
    """Find an arch by name, or check one given as a dict.

    A dict has the arguments of :class:`Arch`, or changes an arch by name:
    ``dict(base='tiny', sam_heads=1)``.

    Raises:
        TypeError: The arch is neither, or a value is of the wrong type.
        ValueError: The name or a key is unknown, a key is missing, or a value
            is out of its range.
    """
    if isinstance(arch, Arch):
        return arch
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise ValueError(
                f"Unknown arch '{arch}': choose one of {', '.join(ARCHS)}, "
                'or give a dict'
            )
        return ARCHS[arch]
    if not isinstance(arch, dict):
        raise TypeError(
            f'arch must be a str or a dict, got {type(arch).__name__}'
        )
    if 'base' in arch:
        changes = dict(arch)
        arch = dict(asdict(parse_arch(changes.pop('base'))), **changes)
    names = [field.name for field in fields(Arch)]
    required, optional = names[:4], names[4:]
    missing = [name for name in required if name not in arch]
    unknown = [name for name in arch if name not in names]
    if missing or unknown:
        raise ValueError(
            f'An arch dict has the keys {", ".join(required)}, or base, and '
            f'may have {", ".join(optional)}; missing: {missing}, unknown: '
            f'{unknown}'
        )
    return Arch(**arch)
