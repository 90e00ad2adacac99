"""Rows of all processes, so that a loss over pairs compares across processes.

How gradients come out right. Let W processes each hold B rows x_r = f(theta, inputs_r), gather
X = [x_1 .. x_W], and compute the same loss L(X). The gradient wanted is that of one process on
the global batch, sum_r dL/dx_r dx_r/dtheta. Process r can only go back through its own rows, so it
has the term of r, and data-parallel training (DDP) then takes the mean over processes: 1 / W of
the sum. ``gather`` therefore multiplies the gradient of the own rows by W and drops the others;
nothing is sent on the way back.

Parameters used after the gather (projection heads, a temperature) see all rows in every process,
get the full gradient everywhere, and the mean leaves it as it is. So heads may be applied before
or after. What must not be done is to sum gradients over processes in place of the mean.
"""

# B = rows of this process, W = processes

from typing import Any

import torch
from torch import Tensor, distributed


def gather(x_B: Tensor) -> Tensor:
    """The rows of all processes, [W * B, ...], in order of rank.

    Args:
        x_B: This process's rows, [B, ...]; the same shape and type in every process. Floating
            tensors keep their gradient as described above; integers (ids) have none.

    Returns:
        ``x_B`` itself where there is one process or no process group.

    Raises:
        ValueError: Processes with different shapes.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return x_B
    if distributed.get_world_size() == 1:
        return x_B
    _check_shapes(x_B)
    return _Gather.apply(x_B) if x_B.is_floating_point() else _everywhere(x_B)  # pyright: ignore


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_B: Tensor) -> Tensor:
        ctx.rows = len(x_B)
        return _everywhere(x_B)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        first = distributed.get_rank() * ctx.rows
        return grads[0][first : first + ctx.rows] * distributed.get_world_size()


def _everywhere(x_B: Tensor) -> Tensor:
    x_B = x_B.detach().contiguous()
    parts = [torch.empty_like(x_B) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, x_B)
    return torch.cat(parts)


def _check_shapes(x_B: Tensor) -> None:
    """Collectives of unequal shapes hang or mix up rows; a few bytes more prevent that."""
    shape = torch.tensor(x_B.shape, device=x_B.device)
    shapes = [torch.empty_like(shape) for _ in range(distributed.get_world_size())]
    distributed.all_gather(shapes, shape)
    found = [s.tolist() for s in shapes]
    if any(s != found[0] for s in found):
        raise ValueError(
            f"every process needs the same number of rows, got {found} by rank: give each an "
            "equal share of the batch"
        )
