"""Older pairs and other processes enlarge what a loss compares, and change nothing else."""

import copy
import io
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from acula_model import losses
from acula_model.gather import gather
from acula_model.queue import PairQueue, keys

WORLD, SHARE = 2, 12  # processes, pairs in each
LAYERS = ("encoder.0", "before", "after")


def step(*pairs: int, width: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """A step's tensors; every value says which pair it is of."""
    pair = torch.tensor(pairs)
    audio = pair[:, None].float().expand(-1, width).clone()
    return audio, 10 * audio, pair % 2, pair % 5, pair


def seen(joined: tuple[Tensor, ...]) -> list[int]:
    """The pairs of a join, after a look that all four tensors are of the same ones."""
    audio, text, group, finding = joined
    pair = audio[:, 0].long()
    assert torch.equal(text[:, 0].long(), 10 * pair)
    assert torch.equal(group, pair % 2) and torch.equal(finding, pair % 5)
    return pair.tolist()


def test_the_queue_follows_the_step_oldest_first_and_twins_only_once():
    queue = PairQueue(4)
    assert seen(queue.joined(*step(1, 2))) == [1, 2]
    for pushed in ((1, 2), (3, 4), (5,)):
        queue.push(*step(*pushed))
    assert seen(queue.joined(*step(8, 9))) == [8, 9, 2, 3, 4, 5]
    assert seen(queue.joined(*step(3, 9))) == [3, 9, 2, 4, 5]
    audio, *rest = step(3)
    queue.push(audio + 0.25, *rest)  # seen again: as last seen, and the newest
    assert len(queue) == 4
    assert queue.joined(*step(9))[0][1:, 0].tolist() == [2.0, 4.0, 5.0, 3.25]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 12),
    st.lists(st.sets(st.integers(0, 20), min_size=1, max_size=9), min_size=1, max_size=12),
)
def test_a_step_compares_at_least_as_many_pairs_as_the_queue_holds(size: int, plan: list[set[int]]):
    queue, order = PairQueue(size), list[int]()
    for pairs in plan:
        got = seen(queue.joined(*step(*pairs)))
        assert len(got) == len(set(got)) >= min(size, len(set(order)))
        assert got[: len(pairs)] == list(pairs)
        assert got[len(pairs) :] == [p for p in order[-size:] if p not in pairs and size]
        queue.push(*step(*pairs))
        order = [p for p in order if p not in pairs] + list(pairs)
        order = order[-size:] if size else []
        assert len(queue) == len(order)


def test_only_the_step_has_a_gradient_and_what_is_kept_is_a_copy():
    queue = PairQueue(8)
    audio, text, *rest = step(1, 2)
    queue.push(audio.requires_grad_().bfloat16(), text.double(), *rest)
    audio.detach().fill_(7)
    now, *others = step(3, 4)
    joined = queue.joined(now.requires_grad_(), *others)
    assert joined[0].dtype == joined[1].dtype == torch.float32
    assert seen(tuple(t.detach() for t in joined)) == [3, 4, 1, 2]
    joined[0].square().sum().backward()
    assert now.grad is not None and torch.equal(now.grad, 2 * now.detach())
    assert audio.grad is None
    assert not any(t.requires_grad for t in queue.state_dict().values())


def test_vectors_of_several_layers_stay_together():
    queue = PairQueue(3)
    audio, _, *rest = step(1, 2)
    text = torch.randn(2, 4, 6)
    queue.push(audio, text, *rest)
    audio, _, *rest = step(5)
    assert torch.equal(queue.joined(audio, torch.zeros(1, 4, 6), *rest)[1][1:], text)


def _train(model: nn.Module, queue: PairQueue, steps: range) -> None:
    descent = torch.optim.SGD(model.parameters(), lr=0.1)
    for number in steps:
        torch.manual_seed(number)
        pair = torch.randperm(40)[:12]
        sound, text = torch.randn(12, 5), torch.randn(12, 4)
        rows = model(sound), text, pair % 2, pair % 7, pair
        audio, report, group, finding = queue.joined(*rows)
        descent.zero_grad()
        losses.build("cka_debiased")(audio, report, group, finding).backward()
        descent.step()
        queue.push(*rows)


def test_a_killed_run_resumes_with_the_same_bits():
    torch.manual_seed(0)
    whole = nn.Linear(5, 4)
    cut = copy.deepcopy(whole)
    queue = PairQueue(16)
    _train(whole, queue, range(8))
    first = PairQueue(16)
    _train(cut, first, range(5))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    resumed = PairQueue(16)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    _train(cut, resumed, range(5, 8))
    assert torch.equal(cut.weight, whole.weight)
    mine, other = resumed.state_dict(), queue.state_dict()
    assert mine.keys() == other.keys() and all(torch.equal(mine[k], other[k]) for k in mine)


def test_a_state_is_cut_to_size_and_nonsense_is_refused():
    queue, small = PairQueue(6), PairQueue(2)
    small.load_state_dict(queue.state_dict())
    assert len(small) == 0
    queue.push(*step(1, 2, 3, 4))
    small.load_state_dict(queue.state_dict())
    assert seen(small.joined(*step(9))) == [9, 3, 4]
    with pytest.raises(ValueError, match=r"not the state of a queue .*: audio \[4, 3\]"):
        small.load_state_dict({"audio": queue.state_dict()["audio"]})
    with pytest.raises(ValueError, match="0 pairs or more, got -1"):
        PairQueue(-1)


def test_keys_are_the_same_everywhere():
    assert keys(["murmur", "", "murmur"]).tolist() == [
        7061913821647373207,
        -2039914840885289964,
        7061913821647373207,
    ]
    assert len(set(keys([str(i) for i in range(10_000)]).tolist())) == 10_000
    assert keys([]).dtype == torch.int64


def test_without_processes_gather_is_the_identity():
    x = torch.randn(3, 2, requires_grad=True)
    assert gather(x) is x


class Model(nn.Module):
    """What a trainer has: an encoder before the gather, a head and a loss after it."""

    def __init__(self, name: str):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
        self.before = nn.Linear(5, 4)
        self.after = nn.Linear(8, 4)
        self.loss = losses.build(name)

    def forward(self, sound_BI: Tensor, text_BE: Tensor, pair_B: Tensor) -> Tensor:
        """The loss on the pairs of all processes."""
        audio, text = self.after(gather(self.encoder(sound_BI))), gather(self.before(text_BE))
        pair = gather(pair_B)
        return self.loss(audio, text, pair % 2, pair // 4)


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """The global batch: sounds, texts, pair ids."""
    generator = torch.Generator().manual_seed(1)
    count = WORLD * SHARE
    return (
        torch.randn(count, 6, generator=generator, dtype=torch.float64),
        torch.randn(count, 5, generator=generator, dtype=torch.float64),
        torch.arange(count),
    )


def _process(rank: int, place: str) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed = torch.distributed
    distributed.init_process_group(
        "gloo", init_method=f"file://{place}/meet", rank=rank, world_size=WORLD
    )
    share = slice(rank * SHARE, (rank + 1) * SHARE)
    found: dict[str, Any] = {}
    for name in ("cka_debiased", "infonce"):
        model = Model(name).double()
        wrapped = nn.parallel.DistributedDataParallel(model)
        loss = wrapped(*(side[share] for side in inputs()))
        loss.backward()
        grads = {key: p.grad for key, p in model.named_parameters()}
        found[name] = {"loss": loss.detach(), "grads": grads}
    found["ids"] = gather(torch.arange(3) + 10 * rank)
    try:
        gather(torch.zeros(2 + rank, 3))
    except ValueError as error:
        found["refused"] = str(error)
    torch.save(found, Path(place) / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_two_processes_have_the_gradient_of_one_on_all_pairs(tmp_path: Path):
    torch.multiprocessing.spawn(_process, (str(tmp_path),), nprocs=WORLD)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]
    for name in ("cka_debiased", "infonce"):
        model = Model(name).double()
        loss = model(*inputs())
        loss.backward()
        want = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
        assert want.keys() == ranks[0][name]["grads"].keys()
        assert min(want[f"{layer}.weight"].norm() for layer in LAYERS) > 1e-3
        for rank in ranks:
            assert rank[name]["loss"].item() == pytest.approx(loss.item(), rel=1e-6)
            for key, grad in want.items():
                assert (rank[name]["grads"][key] - grad).norm() <= 1e-9, (name, key)
    for rank in ranks:
        assert rank["ids"].tolist() == [0, 1, 2, 10, 11, 12]
        assert "[[2, 3], [3, 3]] by rank" in rank["refused"]
