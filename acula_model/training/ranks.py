"""One process or many: which of them this is, and gradients that are the same on all.

``torchrun`` (or Slurm, or Kubernetes) starts the processes and sets the variables read here.
Gradients are summed in one call after the last backward pass of a step, so accumulation costs no
traffic, and parameters that a step does not use need no special care.
"""

import datetime
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

# Rank 0 measures held-out pairs while the others wait.
_PATIENCE = datetime.timedelta(hours=2)


@contextmanager
def group(device: str) -> Iterator[None]:
    """Join the other processes, if there are any, until the block ends."""
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield
        return
    backend = "nccl" if device.startswith("cuda") else "gloo"
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def pick(device: str) -> str:
    """The device of this process: ``auto`` is the GPU of its local rank where there is one."""
    if device != "auto":
        return device
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their mean over processes."""
    if world() == 1:
        return
    having = [p for p in parameters if p.grad is not None]
    flat = torch.cat([p.grad.flatten() for p in having if p.grad is not None])
    dist.all_reduce(flat)
    flat /= world()
    start = 0
    for p in having:
        assert p.grad is not None
        p.grad.copy_(flat[start : start + p.numel()].view_as(p))
        start += p.numel()


def mean(values: Tensor) -> Tensor:
    """Mean over processes of numbers that are only looked at."""
    if world() > 1:
        dist.all_reduce(values)
        values /= world()
    return values


def any_of(flag: bool, device: str) -> bool:
    """Whether one of the processes says yes."""
    if world() == 1:
        return flag
    found = torch.tensor(float(flag), device=device)
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return bool(found)


def wait() -> None:
    """Until all are here."""
    if world() > 1:
        dist.barrier()
