"""Muon: momentum whose step is made orthogonal, for the matrices of the hidden layers.

Source: K. Jordan and others, "Muon: An optimizer for hidden layers in neural networks" (2024), written anew from its
description. Here it learns the demo model's skills in far fewer tokens than AdamW alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of the quintic iteration that pushes singular values towards 1


class Muon:
    """Steps matrices of equal shape together.

    Args:
        matrices: the parameters, all of two dimensions.
        momentum: the share of the old direction that is kept in a step.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], *, momentum: float = 0.95) -> None:
        self.groups: dict[tuple[int, ...], list[nn.Parameter]] = {}
        for matrix in matrices:
            self.groups.setdefault(tuple(matrix.shape), []).append(matrix)
        self.momentum = momentum
        self.averages = {shape: torch.zeros(len(group), *shape) for shape, group in self.groups.items()}

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move every matrix by `learning_rate` along its orthogonalized gradient."""
        for shape, group in self.groups.items():
            gradient = torch.stack([matrix.grad for matrix in group if matrix.grad is not None])
            average = self.averages[shape].lerp_(gradient, 1 - self.momentum)
            update = orthogonalized(gradient.lerp(average, self.momentum))
            scale = learning_rate * max(1.0, shape[0] / shape[1]) ** 0.5
            for matrix, change in zip(group, update, strict=True):
                matrix.add_(change, alpha=-scale)

    def state(self) -> list[Tensor]:
        """What a checkpoint keeps."""
        return list(self.averages.values())

    def load(self, state: list[Tensor]) -> None:
        """Take up a checkpoint's state."""
        for average, saved in zip(self.averages.values(), state, strict=True):
            average.copy_(saved)


def orthogonalized(matrices: Tensor) -> Tensor:
    """Matrices of shape (n, rows, columns) with their singular values brought near 1."""
    tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(5):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * square @ square) @ x
    return x.transpose(1, 2) if tall else x
