"""Losses give the published numbers, and see which report belongs to which sound."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, logsigmoid

from acula_model import gauges, losses
from acula_model.heads import Bridge
from acula_model.losses.contrastive import Contrastive

GOLDEN = Path(__file__).parents[2] / "shared" / "golden" / "opera"
golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden files in {GOLDEN}")
RULES = runpy.run_path(str(GOLDEN / "rules.py")) if GOLDEN.is_dir() else {}
CKA = ["cka", "cka_debiased"]
CONTRASTIVE = ["infonce", "sigmoid"]
PAIRED = [*CKA, *CONTRASTIVE]
ALL = sorted(losses.LOSSES)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def pairs(n: int = 32, width: int = 16) -> tuple[Tensor, Tensor]:
    """Sounds and reports that share half of what they say."""
    audio = normal(n, width)
    return audio, audio + normal(n, width, seed=2)


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
    assert abs(1 - losses.build("cka")(audio, text).item() - want[f"linear_cka{end}"]) <= 1e-6
    debiased = losses.debiased_cka(audio, text).item()
    assert abs(debiased - want[f"debiased_linear_cka{end}"]) <= 1e-6
    if want["released_loss"] is None:
        with pytest.raises(ValueError, match="equal widths"):
            losses.build("release_cov")(audio, text)
    else:
        released = losses.build("release_cov")(audio, text).item()
        assert abs(released - want[f"released_loss{end}"]) <= 1e-6


@golden
def test_golden_gradient():
    want = json.loads((GOLDEN / "alignment_loss.json").read_text())["paired_512"]
    x, y = (torch.from_numpy(side).double() for side in RULES["feature_matrices"]()["paired_512"])
    for name, key in (
        ("release_cov", "released_grad_norm_x"),
        ("cka", "linear_cka_loss_grad_norm_x"),
    ):
        (gradient,) = torch.autograd.grad(losses.build(name)(x.requires_grad_(), y), x)
        assert gradient.norm().item() == pytest.approx(want[key], rel=1e-6)


def test_every_loss_but_the_release_s_is_held_to_the_pairing():
    assert set(PAIRED) | {"release_cov"} == losses.LOSSES.keys()


@pytest.mark.parametrize("name", PAIRED)
def test_shuffled_reports_change_every_loss_on_offer(name: str):
    audio, text = pairs()
    loss = losses.build(name)
    assert loss(audio, text.roll(1, 0)) > loss(audio, text) + 0.05


def test_release_cov_has_the_documented_defect():
    audio, text = pairs()
    audio.requires_grad_()
    found = []
    for reports in (text, text[torch.randperm(32, generator=torch.Generator().manual_seed(0))]):
        loss = losses.build("release_cov")(audio, reports)
        found.append((loss, torch.autograd.grad(loss, audio)[0]))
    assert abs(found[0][0] - found[1][0]) < 1e-14
    assert (found[0][1] - found[1][1]).abs().max() < 1e-15


@pytest.mark.parametrize("name", CKA)
def test_rotation_scale_and_shift_change_nothing(name: str):
    audio, text = pairs()
    loss = losses.build(name)
    turn, _ = torch.linalg.qr(normal(16, 16, seed=3))
    moved = 1e3 * audio @ turn + 5
    assert abs(loss(moved, 1e-3 * text) - loss(audio, text)) < 1e-9
    assert abs(loss(audio, 7 * audio @ turn)) < 1e-9


@pytest.mark.parametrize("name", CONTRASTIVE)
def test_contrastive_losses_see_directions_and_no_lengths(name: str):
    audio, text = pairs()
    loss = losses.build(name)
    lengths = normal(32, 1, seed=4).exp()
    assert torch.allclose(loss(1e3 * lengths * audio, 1e-3 * text), loss(audio, text))
    far = loss((1e30 * audio).float(), (1e-30 * text).float())
    assert far.item() == pytest.approx(loss(audio, text).item(), abs=1e-4)
    turn, _ = torch.linalg.qr(normal(16, 16, seed=3))
    assert torch.allclose(loss(audio @ turn, text @ turn), loss(audio, text))
    assert abs(loss(audio @ turn, text) - loss(audio, text)) > 0.05


def test_float32_is_stable_far_from_the_origin_and_at_any_scale():
    audio, text = pairs()
    want = losses.debiased_cka(audio, text).item()
    for scale, shift in ((1.0, 0.0), (1e12, 0.0), (1e-12, 0.0), (1.0, 100.0)):
        got = losses.debiased_cka((scale * audio + shift).float(), text.float()).item()
        assert got == pytest.approx(want, abs=1e-4), (scale, shift)


@pytest.mark.parametrize("n", [24, 64, 128, 512])
def test_unrelated_sides_have_a_debiased_cka_of_zero(n: int):
    rounds = 2_000 // n + 8
    found = [
        losses.debiased_cka(normal(n, 64, seed=2 * i), normal(n, 96, seed=2 * i + 1)).item()
        for i in range(rounds)
    ]
    assert abs(np.mean(found)) <= 3 * np.std(found, ddof=1) / rounds**0.5


def test_textbook_cka_is_biased_at_small_batches():
    assert losses.build("cka")(normal(24, 512), normal(24, 512, seed=1)) < 0.1


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


@pytest.mark.parametrize("name", CKA)
def test_groups_are_pooled_as_documented(name: str):
    audio, text = pairs(40)
    loss = losses.build(name)
    group = torch.tensor([3] * 10 + [-1] * 30)[torch.randperm(40)]
    moved = audio + 100.0 * (group == 3)[:, None]
    assert torch.allclose(loss(moved, text, group), loss(audio, text, group))


@pytest.mark.parametrize("name", PAIRED)
def test_pairs_of_other_groups_change_nothing(name: str):
    audio, text = pairs(40)
    loss = losses.build(name)
    group = torch.tensor([3] * 10 + [-1] * 30)[torch.randperm(40)]
    assert torch.allclose(loss(audio, text, torch.full((40,), 7)), loss(audio, text))
    order = torch.randperm(40)
    alone = loss(audio, text, group)
    assert torch.allclose(loss(audio[order], text[order], group[order]), alone)
    # Groups too small to compare are left out, whatever is in them.
    size = 1 if name in CONTRASTIVE else 3
    more = [torch.cat([v, 50 * normal(size, 16, seed=9)]) for v in (audio, text)]
    assert torch.allclose(loss(*more, torch.cat([group, torch.zeros(size)])), alone)


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


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("grouped", [False, True])
def test_gradients(name: str, grouped: bool):
    audio, text = normal(11, 3).requires_grad_(), normal(11, 3, seed=1).requires_grad_()
    group = torch.tensor([0] * 4 + [1] * 5 + [2] * 2) if grouped else None
    finding = torch.arange(11) // 2 if grouped else None
    loss = losses.build(name).double()
    learned = list(loss.parameters())

    # The scale of a side is a constant for the gradient; no loss depends on it, so this holds.
    def value(audio: Tensor, text: Tensor, *_: Tensor) -> Tensor:
        return loss(audio, text, group, finding)

    assert torch.autograd.gradcheck(value, (audio, text, *learned))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("value", [0.1, 0.0])
def test_a_constant_side_gives_a_finite_loss_and_gradient(name: str, value: float):
    audio = torch.full((8, 5), value).requires_grad_()
    loss = losses.build(name)(audio, normal(8, 5).float())
    loss.backward()
    assert audio.grad is not None and audio.grad.isfinite().all() and loss.isfinite()
    if name not in CONTRASTIVE:
        assert loss == 1 and not audio.grad.any()
    assert audio.grad.abs().max() < 100


@pytest.mark.parametrize("name", ALL)
def test_half_precision_and_autocast_change_little(name: str):
    audio, text = (side.bfloat16() for side in pairs())
    want = losses.build(name)(audio.double(), text.double()).item()
    with torch.autocast("cpu", torch.bfloat16):
        got = losses.build(name)(audio, text)
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(want, abs=1e-4)


def test_infonce_with_single_positives_is_the_loss_of_clip():
    audio, text = pairs()
    logits = torch.cosine_similarity(audio[:, None], text, dim=2) / 0.07
    own = torch.arange(32)
    want = (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
    assert losses.build("infonce")(audio, text).item() == pytest.approx(want.item())


def test_sigmoid_is_the_loss_of_siglip():
    audio, text = pairs()
    logits = 10 * torch.cosine_similarity(audio[:, None], text, dim=2) - 10
    want = -logsigmoid((2 * torch.eye(32) - 1) * logits).sum() / 32
    assert losses.build("sigmoid")(audio, text).item() == pytest.approx(want.item(), rel=1e-6)


@pytest.mark.parametrize("name", CONTRASTIVE)
def test_no_pair_of_equal_findings_is_pushed_apart(name: str):
    """For any similarities; SupCon's L_out fails this for the nearest of several twins."""
    loss = losses.build(name)
    assert isinstance(loss, Contrastive)
    finding = torch.arange(24) // 3
    equal = finding[:, None] == finding
    for seed in range(5):
        cosine = torch.tanh(normal(24, 24, seed=seed)).requires_grad_()
        (pull,) = torch.autograd.grad(loss.of_cosines(cosine, equal, ~equal), cosine)
        assert (pull[equal] < 0).all()
        assert (pull[~equal] > 0).all()


@pytest.mark.parametrize("name", CONTRASTIVE)
def test_equal_findings_make_reports_exchangeable(name: str):
    """Swapping the reports of two pairs that state the same changes nothing; of others, it does."""
    audio, text = pairs()
    loss, finding = losses.build(name), torch.arange(32) // 2
    for other, same in ((1, True), (2, False)):
        order = torch.arange(32)
        order[[0, other]] = order[[other, 0]]
        swapped = torch.allclose(
            loss(audio, text[order], finding_N=finding), loss(audio, text, finding_N=finding)
        )
        assert swapped == same


def test_a_batch_without_negatives_has_no_infonce_and_a_zero_gradient():
    audio = normal(6, 4).requires_grad_()
    loss = losses.build("infonce")(audio, normal(6, 4, seed=1), finding_N=torch.zeros(6))
    loss.backward()
    assert loss == 0 and audio.grad is not None and not audio.grad.any()


def test_the_temperature_is_learned_saved_and_bounded():
    audio, text = pairs()
    loss = losses.build("infonce")
    assert loss.state_dict()["log_scale"].exp().item() == pytest.approx(1 / 0.07)
    descent = torch.optim.SGD(loss.parameters(), lr=1e3)
    for report in (audio, text.roll(1, 0)):  # perfect pairs want it cold, wrong ones warm
        descent.zero_grad()
        loss(audio, report).backward()
        descent.step()
        if report is audio:
            loss(audio, report)
            assert loss.state_dict()["log_scale"].exp().item() <= 100 * (1 + 1e-6)
    assert loss.state_dict()["log_scale"].exp() < 50  # not stuck at the bound
    assert losses.build("sigmoid").state_dict().keys() == {"log_scale", "bias"}


@pytest.mark.parametrize("name", ALL)
def test_undefined_inputs_are_refused(name: str):
    loss = losses.build(name)
    with pytest.raises(ValueError, match="one row per clip"):
        loss(normal(6, 5), normal(5, 5))
    with pytest.raises(ValueError, match="one finding id per pair"):
        loss(normal(6, 5), normal(6, 5), finding_N=torch.zeros(5))
    if name not in CKA:
        with pytest.raises(ValueError, match="needs equal widths, got 5 and 4"):
            loss(normal(6, 5), normal(6, 4))
    if name == "release_cov":
        return
    with pytest.raises(ValueError, match="one group per clip"):
        loss(normal(6, 5), normal(6, 5), torch.zeros(5))
    with pytest.raises(ValueError, match=r"no group has [24] of the 6 clips"):
        loss(normal(6, 5), normal(6, 5), torch.arange(6))
    if name in CKA:
        with pytest.raises(ValueError, match="no group has 4 of the 3 clips"):
            loss(normal(3, 5), normal(3, 5))


def test_unknown_names_list_the_known():
    with pytest.raises(ValueError, match="cka, cka_debiased, infonce, release_cov, sigmoid"):
        losses.build("nce")


def planted(name: str, shuffled: bool) -> tuple[float, float]:
    """Held-out debiased CKA and recall@10 of two linear heads, trained by one loss.

    Eight factors are shared; eight that are twice as strong belong to one side only.
    """
    torch.manual_seed(0)
    factor = torch.randn(640, 8)
    audio, text = (
        torch.cat([factor, 2 * torch.randn(640, 8)], 1) @ torch.randn(16, width) / 4
        + 0.1 * torch.randn(640, width)
        for width in (32, 48)
    )
    known, new = slice(0, 512), slice(512, 640)
    order = torch.randperm(512) if shuffled else torch.arange(512)
    learn_text = text[known][order]
    heads = nn.Linear(32, 16, bias=False), nn.Linear(48, 16, bias=False)
    loss = losses.build(name)
    learned = [p for module in (*heads, loss) for p in module.parameters()]
    descent = torch.optim.Adam(learned, lr=0.01)
    for _ in range(150):
        some = torch.randint(512, (96,))
        descent.zero_grad()
        loss(heads[0](audio[known][some]), heads[1](learn_text[some])).backward()
        descent.step()
    with torch.no_grad():
        bridge = Bridge.fit(heads[0](audio[known]), heads[1](learn_text))
        sound, report = heads[0](audio[new]), heads[1](text[new])
        found = gauges.retrieval(bridge.audio(sound), bridge.text(report))
        return losses.debiased_cka(sound, report).item(), found.report.recall[10]


@pytest.mark.parametrize("name", ALL)
def test_a_planted_pairing_is_recovered_from_true_pairs_alone(name: str):
    true, shuffled = planted(name, shuffled=False), planted(name, shuffled=True)
    chance = 10 / 128
    assert shuffled[0] < 0.4 and shuffled[1] < 2.5 * chance
    if name == "release_cov":
        assert true[0] < 0.2 and true[1] < 4 * chance
    else:
        assert true[0] > 0.9 and true[1] > 0.9
