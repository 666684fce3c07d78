"""The networks: small, of the kinds that people train."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def perceptron(classes: int) -> nn.Module:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(196, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, classes)
    )


class Block(nn.Module):
    """Two convolutions with batch norm beside a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet(classes: int) -> nn.Sequential:
    """Two blocks; the last module is the classifier."""
    stem = nn.Sequential(nn.Conv2d(1, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(stem, Block(8, 16, 2), Block(16, 32, 2), pool, nn.Linear(32, classes))


class Attention(nn.Module):
    """Self-attention and a perceptron without biases, each behind a layer norm without weights (pre-LN)."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width, bias=False), nn.GELU(), nn.Linear(4 * width, width, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / math.sqrt(width / self.heads)
        if self.causal:
            scores = scores.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -math.inf)
        x = x + self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm(x))


class Transformer(nn.Module):
    """Logits over bytes at every place. Byte values 256 and up (a mask) may be put in, never come out."""

    def __init__(self, length: int, width: int = 32, layers: int = 2, heads: int = 2, causal: bool = True) -> None:
        super().__init__()
        self.bytes, self.places = nn.Embedding(257, width), nn.Embedding(length, width)
        self.layers = nn.Sequential(*(Attention(width, heads, causal) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width, elementwise_affine=False), nn.Linear(width, 256)
        for part in self.modules():
            if isinstance(part, (nn.Linear, nn.Embedding)):
                nn.init.normal_(part.weight, std=0.02 if isinstance(part, nn.Embedding) else width**-0.5 / 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.layers(self.bytes(x) + self.places.weight[: x.shape[1]])))
