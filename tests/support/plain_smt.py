"""SMT written straight from the paper, plainly: NCHW maps, (B, N, C) tokens,
an explicit N x N attention map. Names are those of the released checkpoints.

The second oracle of the backbone's tests, and what its speed and memory are
measured against.
"""

import torch
from torch import Tensor, nn


class Stem(nn.Module):
    """Table 13: conv k x k, BN; conv 2 x 2, LN."""

    def __init__(self, dims: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(3, dims, kernel_size, 2, kernel_size // 2, bias=False),
            nn.BatchNorm2d(dims),
            nn.ReLU(),
            nn.Conv2d(dims, dims, 2, 2),
        )
        self.norm = nn.LayerNorm(dims)

    def forward(self, x: Tensor):
        x = self.conv(x)
        size = x.shape[2:]
        return self.norm(to_tokens(x)), size


class PatchEmbed(nn.Module):
    """Table 13: conv 3 x 3, LN."""

    def __init__(self, in_dims: int, dims: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_dims, dims, 3, 2, 1)
        self.norm = nn.LayerNorm(dims)

    def forward(self, x: Tensor):
        x = self.proj(x)
        size = x.shape[2:]
        return self.norm(to_tokens(x)), size


def to_tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, N, C)."""
    return x.flatten(2).transpose(1, 2)


def to_map(x: Tensor, size) -> Tensor:
    """(B, N, C) to (B, C, H, W)."""
    return x.transpose(1, 2).reshape(len(x), -1, *size)


class SAM(nn.Module):
    """Equations 1 to 3, with N = 4 heads and expansion 2."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.v = nn.Linear(dims, dims)
        self.s = nn.Linear(dims, dims)
        part = dims // 4
        for i in range(4):
            conv = nn.Conv2d(part, part, 3 + 2 * i, 1, 1 + i, groups=part)
            self.add_module(f'local_conv_{i + 1}', conv)
        self.proj0 = nn.Conv2d(dims, 2 * dims, 1, groups=part)
        self.bn = nn.BatchNorm2d(2 * dims)
        self.act = nn.GELU()
        self.proj1 = nn.Conv2d(2 * dims, dims, 1)
        self.proj = nn.Linear(dims, dims)

    def forward(self, x: Tensor, size) -> Tensor:
        heads = to_map(self.s(x), size).chunk(4, dim=1)
        heads = [
            getattr(self, f'local_conv_{i + 1}')(head)
            for i, head in enumerate(heads)
        ]
        # Group i: channel i of head 1, of head 2, ...
        groups = torch.stack(heads, dim=2).flatten(1, 2)
        modulator = self.proj1(self.act(self.bn(self.proj0(groups))))
        return self.proj(to_tokens(modulator) * self.v(x))


class MSA(nn.Module):
    """softmax(Q K^T / sqrt(d)) V, plus a 3 x 3 depth-wise conv of V."""

    def __init__(self, dims: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dims, dims)
        self.kv = nn.Linear(dims, 2 * dims)
        self.local_conv = nn.Conv2d(dims, dims, 3, 1, 1, groups=dims)
        self.proj = nn.Linear(dims, dims)

    def forward(self, x: Tensor, size) -> Tensor:
        def split(y):
            return y.reshape(*y.shape[:2], self.heads, -1).transpose(1, 2)

        q = self.q(x)
        k, v = self.kv(x).chunk(2, dim=-1)
        scores = split(q) @ split(k).transpose(2, 3)
        scores = scores * (q.shape[-1] // self.heads) ** -0.5
        out = scores.softmax(dim=-1) @ split(v)
        out = out.transpose(1, 2).reshape(x.shape)
        return self.proj(out + to_tokens(self.local_conv(to_map(v, size))))


class FFN(nn.Module):
    """fc2(GELU(h + dwconv(h))), h = fc1(x), as in Shunted Transformer."""

    def __init__(self, dims: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dims, hidden)
        self.dwconv = nn.Module()
        self.dwconv.dwconv = nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dims)

    def forward(self, x: Tensor, size) -> Tensor:
        x = self.fc1(x)
        detail = self.dwconv.dwconv(to_map(x, size))
        return self.fc2(self.act(x + to_tokens(detail)))


class Block(nn.Module):
    def __init__(
        self, mixer: nn.Module, dims: int, ratio: int, layer_scale: bool
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dims, eps=1e-6)
        self.attn = mixer
        self.norm2 = nn.LayerNorm(dims, eps=1e-6)
        self.mlp = FFN(dims, dims * ratio)
        if layer_scale:
            self.gamma_1 = nn.Parameter(torch.ones(dims))
            self.gamma_2 = nn.Parameter(torch.ones(dims))
        else:
            self.gamma_1 = self.gamma_2 = 1.0

    def forward(self, x: Tensor, size) -> Tensor:
        x = x + self.gamma_1 * self.attn(self.norm1(x), size)
        return x + self.gamma_2 * self.mlp(self.norm2(x), size)


class PlainSMT(nn.Module):
    """The four stages and the classifier, without stochastic depth.

    ``forward`` returns the four maps; ``classify`` the 1000 logits.
    """

    def __init__(
        self,
        embed_dims=(64, 128, 256, 512),
        depths=(2, 2, 8, 1),
        mlp_ratios=(4, 4, 4, 2),
        stem_kernel_size=3,
        layer_scale=False,
    ) -> None:
        super().__init__()
        for i, dims in enumerate(embed_dims):
            embed = (
                Stem(dims, stem_kernel_size)
                if i == 0
                else PatchEmbed(embed_dims[i - 1], dims)
            )
            blocks = []
            for j in range(depths[i]):
                sam = i < 2 or (i == 2 and j % 2 == 0)
                mixer = SAM(dims) if sam else MSA(dims, 8 if i == 2 else 16)
                blocks.append(Block(mixer, dims, mlp_ratios[i], layer_scale))
            self.add_module(f'patch_embed{i + 1}', embed)
            self.add_module(f'block{i + 1}', nn.ModuleList(blocks))
            self.add_module(f'norm{i + 1}', nn.LayerNorm(dims, eps=1e-6))
        self.head = nn.Linear(embed_dims[-1], 1000)

    @classmethod
    def of(cls, arch, layer_scale: bool = False) -> 'PlainSMT':
        """The plain form of an :class:`mmsmt.models.arch.Arch`."""
        return cls(
            arch.embed_dims,
            arch.depths,
            arch.mlp_ratios,
            arch.stem_kernel_size,
            layer_scale,
        )

    def forward(self, x: Tensor):
        outs = []
        for i in range(1, 5):
            x, size = getattr(self, f'patch_embed{i}')(x)
            for block in getattr(self, f'block{i}'):
                x = block(x, size)
            x = to_map(getattr(self, f'norm{i}')(x), size)
            outs.append(x)
        return tuple(outs)

    def classify(self, x: Tensor) -> Tensor:
        return self.head(self(x)[-1].mean(dim=(2, 3)))
