"""Losses give the published numbers, and see which report belongs to which sound."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from acula_model import losses

GOLDEN = Path(__file__).parents[2] / "shared" / "golden" / "opera"
golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden files in {GOLDEN}")
RULES = runpy.run_path(str(GOLDEN / "rules.py")) if GOLDEN.is_dir() else {}
PAIRED = [losses.cka, losses.cka_debiased]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def pairs(n: int = 32, width: int = 16) -> tuple[Tensor, Tensor]:
    """Sounds and reports that share half of what they say."""
    audio = normal(n, width)
    return audio, audio @ normal(width, width, seed=1) / width**0.5 + normal(n, width, seed=2)


@golden
@pytest.mark.parametrize(
    "case", ["paired_512", "small_8_16", "independent_512", "audio384_text2560"]
)
@pytest.mark.parametrize("shifted", [False, True])
def test_golden_values(case: str, shifted: bool):
    want = json.loads((GOLDEN / "alignment_loss.json").read_text())[case]
    x, y = RULES["feature_matrices"]()[case]
    y = RULES["row_shift"](y) if shifted else y
    audio, text = (torch.from_numpy(side).double() for side in (x, y))
    end = "_repaired" if shifted else ""
    assert abs(1 - losses.cka(audio, text).item() - want[f"linear_cka{end}"]) <= 1e-6
    debiased = losses.debiased_cka(audio, text).item()
    assert abs(debiased - want[f"debiased_linear_cka{end}"]) <= 1e-6
    if want["released_loss"] is None:
        with pytest.raises(ValueError, match="equal widths"):
            losses.release_cov(audio, text)
    else:
        released = losses.release_cov(audio, text).item()
        assert abs(released - want[f"released_loss{end}"]) <= 1e-6


@golden
def test_golden_gradient():
    want = json.loads((GOLDEN / "alignment_loss.json").read_text())["paired_512"]
    x, y = (torch.from_numpy(side).double() for side in RULES["feature_matrices"]()["paired_512"])
    for loss, name in (
        (losses.release_cov, "released_grad_norm_x"),
        (losses.cka, "linear_cka_loss_grad_norm_x"),
    ):
        (gradient,) = torch.autograd.grad(loss(x.requires_grad_(), y), x)
        assert gradient.norm().item() == pytest.approx(want[name], rel=1e-6)


@pytest.mark.parametrize("name", sorted(losses.LOSSES.keys() - {"release_cov"}))
def test_shuffled_reports_change_every_loss_on_offer(name: str):
    audio, text = pairs()
    loss = losses.build(name)
    assert loss(audio, text.roll(1, 0)) > loss(audio, text) + 0.05


def test_release_cov_has_the_documented_defect():
    audio, text = pairs()
    audio.requires_grad_()
    found = []
    for reports in (text, text[torch.randperm(32, generator=torch.Generator().manual_seed(0))]):
        loss = losses.release_cov(audio, reports)
        found.append((loss, torch.autograd.grad(loss, audio)[0]))
    assert abs(found[0][0] - found[1][0]) < 1e-14
    assert (found[0][1] - found[1][1]).abs().max() < 1e-15


@pytest.mark.parametrize("loss", PAIRED)
def test_rotation_scale_and_shift_change_nothing(loss: losses.AlignmentLoss):
    audio, text = pairs()
    turn, _ = torch.linalg.qr(normal(16, 16, seed=3))
    moved = 1e3 * audio @ turn + 5
    assert abs(loss(moved, 1e-3 * text) - loss(audio, text)) < 1e-9
    assert abs(loss(audio, 7 * audio @ turn)) < 1e-9


def test_float32_is_stable_far_from_the_origin_and_at_any_scale():
    audio, text = pairs()
    want = losses.debiased_cka(audio, text).item()
    for scale, shift in ((1.0, 0.0), (1e12, 0.0), (1e-12, 0.0), (1.0, 100.0)):
        got = losses.debiased_cka((scale * audio + shift).float(), text.float()).item()
        assert got == pytest.approx(want, abs=1e-4), (scale, shift)


@pytest.mark.parametrize("n", [24, 128, 512])
def test_unrelated_sides_have_a_debiased_cka_of_zero(n: int):
    rounds = 2_000 // n + 8
    found = [
        losses.debiased_cka(normal(n, 64, seed=2 * i), normal(n, 96, seed=2 * i + 1)).item()
        for i in range(rounds)
    ]
    assert abs(np.mean(found)) <= 3 * np.std(found, ddof=1) / rounds**0.5


def test_textbook_cka_is_biased_at_small_batches():
    assert losses.cka(normal(24, 512), normal(24, 512, seed=1)) < 0.1


@pytest.mark.parametrize("n", [4, 5, 12])
def test_debiased_form_equals_the_estimator_it_cites(n: int):
    """Song et al. (2012), equation 5, written with sums."""

    def hsic(k: Tensor, ell: Tensor) -> Tensor:
        k, ell = k - k.diag().diag(), ell - ell.diag().diag()
        trace, cross = (k @ ell).trace(), (k @ ell).sum()
        middle = k.sum() * ell.sum() / ((n - 1) * (n - 2))
        return (trace + middle - 2 * cross / (n - 2)) / (n * (n - 3))

    x, y = normal(n, 6), normal(n, 9, seed=1)
    k, ell = x @ x.T, y @ y.T
    want = hsic(k, ell) / (hsic(k, k) * hsic(ell, ell)).sqrt()
    assert torch.allclose(losses.debiased_cka(x, y), want)


def test_groups_that_agree_only_in_their_means_have_a_cka_of_zero():
    group = torch.arange(400) % 4
    found, pooled = [], []
    for seed in range(12):
        means = 5 * normal(4, 16, seed=1_000 + seed)
        audio = normal(400, 16, seed=2 * seed) + means[group]
        text = normal(400, 16, seed=2 * seed + 1) + means[group]
        found.append(losses.debiased_cka(audio, text, group).item())
        pooled.append(losses.debiased_cka(audio, text).item())
    assert abs(np.mean(found)) <= 3 * np.std(found, ddof=1) / len(found) ** 0.5
    assert min(pooled) > 0.9


@pytest.mark.parametrize("loss", PAIRED)
def test_groups_are_pooled_as_documented(loss: losses.AlignmentLoss):
    audio, text = pairs(40)
    group = torch.tensor([3] * 10 + [-1] * 30)[torch.randperm(40)]
    assert torch.allclose(loss(audio, text, torch.full((40,), 7)), loss(audio, text))
    values = (audio, text, group)
    order = torch.randperm(40)
    assert torch.allclose(loss(*values), loss(*(v[order] for v in values)))
    moved = audio + 100.0 * (group == 3)[:, None]
    assert torch.allclose(loss(moved, text, group), loss(*values))
    # Groups of fewer than four are left out: three clips more change nothing.
    more = [torch.cat([v, 50 * normal(3, 16, seed=9)]) for v in (audio, text)]
    assert torch.allclose(loss(*more, torch.cat([group, torch.zeros(3)])), loss(*values))


def test_pooling_weighs_every_pair_of_a_group_once():
    audio, text = pairs(40)
    group = torch.tensor([0] * 10 + [1] * 30)
    products = {}
    for sides in ("xy", "xx", "yy"):
        products[sides] = 0.0
        for g, n in ((0, 10), (1, 30)):
            x, y = ({"x": audio, "y": text}[side][group == g] for side in sides)
            k, ell = x @ x.T, y @ y.T
            k, ell = k - k.diag().diag(), ell - ell.diag().diag()
            middle = k.sum() * ell.sum() / ((n - 1) * (n - 2))
            unbiased = (k @ ell).trace() + middle - 2 * (k @ ell).sum() / (n - 2)
            products[sides] += unbiased.item()  # n (n - 3) times the unbiased HSIC
    want = products["xy"] / (products["xx"] * products["yy"]) ** 0.5
    assert losses.debiased_cka(audio, text, group).item() == pytest.approx(want)


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
@pytest.mark.parametrize("grouped", [False, True])
def test_gradients(name: str, grouped: bool):
    audio, text = normal(11, 3).requires_grad_(), normal(11, 3, seed=1).requires_grad_()
    group = torch.tensor([0] * 4 + [1] * 5 + [2] * 2) if grouped else None
    # The scale of a side is a constant for the gradient; no loss depends on it, so this holds.
    assert torch.autograd.gradcheck(lambda a, t: losses.build(name)(a, t, group), (audio, text))


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_a_constant_side_gives_one_and_a_finite_gradient(name: str):
    audio = torch.full((8, 5), 0.1).requires_grad_()
    loss = losses.build(name)(audio, normal(8, 5).float())
    loss.backward()
    assert loss == 1
    assert audio.grad is not None and not audio.grad.any()


@pytest.mark.parametrize("loss", PAIRED)
def test_undefined_inputs_are_refused(loss: losses.AlignmentLoss):
    with pytest.raises(ValueError, match="no group has 4"):
        loss(normal(3, 5), normal(3, 5))
    with pytest.raises(ValueError, match="no group has 4"):
        loss(normal(6, 5), normal(6, 5), torch.arange(6) // 2)
    with pytest.raises(ValueError, match="one row per clip"):
        loss(normal(6, 5), normal(5, 5))
    with pytest.raises(ValueError, match="one group per clip"):
        loss(normal(6, 5), normal(6, 5), torch.zeros(5))


def test_unknown_names_list_the_known():
    with pytest.raises(ValueError, match="cka, cka_debiased, release_cov"):
        losses.build("infonce")
