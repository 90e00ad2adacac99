"""Random numbers of a pair: SplitMix64 as published, uniform, and the same in any company."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acula_model import noise

LARGEST = 2**63 - 1
int64 = st.integers(-LARGEST - 1, LARGEST)


class SplitMix64:
    """The generator of Steele, Lea and Flood, 2014 (figure 17), in plain integers."""

    def __init__(self, state: int):
        self.state = state

    def next(self) -> int:
        """The next 64 bits."""
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31


def expected(seed: int, count: int, stream: int) -> list[float]:
    outer = SplitMix64(seed % 2**64)
    for _ in range(stream):
        outer.next()
    inner = SplitMix64(outer.next())
    return [(inner.next() >> 40) / 2**24 for _ in range(count)]


def test_the_reference_is_the_published_generator() -> None:
    """First outputs from seed 1234567, as the public test vectors of SplitMix64 have them."""
    reference = SplitMix64(1234567)
    assert [reference.next() for _ in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@given(st.lists(int64, min_size=1, max_size=4), st.integers(1, 9), st.integers(0, 40))
def test_numbers_are_those_of_splitmix64(seeds: list[int], count: int, stream: int) -> None:
    drawn = noise.uniform(torch.tensor(seeds), (count,), stream)
    assert drawn.dtype == torch.float32
    assert drawn.tolist() == [expected(seed, count, stream) for seed in seeds]


@settings(deadline=None)
@given(
    st.lists(int64, min_size=2, max_size=12),
    st.data(),
    st.sampled_from([noise.uniform, noise.normal]),
)
def test_company_order_and_length_do_not_matter(
    seeds: list[int], data: st.DataObject, draw
) -> None:
    seed_B = torch.tensor(seeds)
    whole = draw(seed_B, (3, 5))
    assert whole.shape == (len(seeds), 3, 5)
    cut = data.draw(st.integers(1, len(seeds) - 1))
    parts = torch.cat((draw(seed_B[:cut], (3, 5)), draw(seed_B[cut:], (3, 5))))
    # The last bits of a logarithm may depend on how numbers lie in memory.
    same = torch.equal if draw is noise.uniform else torch.allclose
    assert same(parts, whole)
    order = torch.tensor(data.draw(st.permutations(range(len(seeds)))))
    assert same(draw(seed_B[order], (3, 5)), whole[order])
    if draw is noise.uniform:  # a longer draw goes on where a shorter one ended
        assert torch.equal(draw(seed_B, (20,))[:, :15], whole.flatten(1))


def pairs(count: int, seed: int = 0, epoch: int = 1) -> torch.Tensor:
    ids = [f"{i * 0x9E3779B97F4A7C15 % 2**64:016x}" for i in range(count)]
    return torch.from_numpy(noise.seeds(ids, seed, epoch))


def test_numbers_are_uniform_and_independent() -> None:
    """Means, shares and correlations within five standard errors of what chance gives."""
    drawn = noise.uniform(pairs(2000), (100,)).double()
    total = drawn.numel()
    assert drawn.min() >= 0 and drawn.max() < 1
    assert abs(drawn.mean() - 0.5) < 5 * math.sqrt(1 / 12 / total)
    shares = torch.histc(drawn.float(), 50, 0, 1).double() / total
    assert (shares - 0.02).abs().max() < 5 * math.sqrt(0.02 * 0.98 / total)
    assert (drawn.mean(0) - 0.5).abs().max() < 5 * math.sqrt(1 / 12 / 2000)  # each place
    assert (drawn.mean(1) - 0.5).abs().max() < 5 * math.sqrt(1 / 12 / 100)  # each pair
    others = {
        "next place": (drawn[:, :-1], drawn[:, 1:]),
        "next pair": (drawn[:-1], drawn[1:]),
        "stream": (drawn, noise.uniform(pairs(2000), (100,), stream=1).double()),
        "epoch": (drawn, noise.uniform(pairs(2000, epoch=2), (100,)).double()),
        "seed": (drawn, noise.uniform(pairs(2000, seed=1), (100,)).double()),
    }
    for name, (one, other) in others.items():
        correlation = np.corrcoef(one.flatten(), other.flatten())[0, 1]
        assert abs(correlation) < 5 / math.sqrt(one.numel()), name


def test_normal_numbers_have_the_moments_of_a_normal() -> None:
    drawn = noise.normal(pairs(2000), (100,)).double()
    error = 1 / math.sqrt(drawn.numel())
    assert torch.isfinite(drawn).all()
    assert abs(drawn.mean()) < 5 * error
    assert abs(drawn.square().mean() - 1) < 5 * math.sqrt(2) * error
    assert abs(drawn.pow(3).mean()) < 5 * math.sqrt(15) * error
    assert abs(drawn.pow(4).mean() - 3) < 5 * math.sqrt(96) * error


def test_seeds_differ_by_pair_run_and_epoch_and_by_nothing_else() -> None:
    ids = [f"{i:016x}" for i in (0, 1, 2**63, 2**64 - 1)]
    found = [noise.seeds(ids, seed, epoch) for seed, epoch in itertools.product(range(5), range(5))]
    assert all(s.dtype == np.int64 for s in found)
    assert len(set(np.concatenate(found).tolist())) == 4 * 25
    assert np.array_equal(noise.seeds(ids[::-1], 2, 3), noise.seeds(ids, 2, 3)[::-1])
    assert noise.seeds([], 0, 1).shape == (0,)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_the_same_numbers() -> None:
    seed_B = pairs(64)
    for stream in (0, 3):
        here = noise.uniform(seed_B, (1024,), stream)
        assert torch.equal(noise.uniform(seed_B.cuda(), (1024,), stream).cpu(), here)
