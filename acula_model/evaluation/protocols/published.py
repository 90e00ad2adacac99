"""The published protocol, as the benchmark's code really behaves.

Source: the linear probe of OPERA (Zhang et al., 2024) and of the AcuLa release. One linear layer
on features as they are, weights N(0, 0.01), bias 0; cross-entropy (or squared error of
``head * sd + mean`` of the training targets) plus ``l2 * sum(w^2)`` with the bias; Adam at 1e-4,
whatever the command line says, times 0.97 per epoch; gradient norm clipped at 1; the state that is
best on validation is tested; seeds 0 to 4. Seeds decide the start and the order of batches only.
Where no validation list is published it is drawn from training *recordings*, so its persons
are also trained on.

All seeds, held-out persons and shuffles are trained side by side as one batched program.
"""

# N = recordings, C = number of outputs

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from acula_model.evaluation import floors
from acula_model.evaluation.examples import Examples, Split
from acula_model.evaluation.protocols import Outcome
from acula_model.evaluation.protocols.side_by_side import Run, train
from acula_model.evaluation.task import Published

SEEDS = (0, 1, 2, 3, 4)
SHUFFLES = 5
_DRAWN = {"holdout": 1337, "leave_one_person_out": 42}  # random_state of the validation draw


def run(
    examples: Examples, settings: Published, seeds: Sequence[int] = SEEDS, shuffles: int = SHUFFLES
) -> Outcome:
    """Train and test every seed on every split of the task.

    Args:
        examples: One task and variant.
        settings: What the benchmark's code sets for this task.
        seeds: Of head and batches.
        shuffles: Heads on shuffled labels, with seeds 0, 1, ...
    """
    splits = [_with_validation(examples, s, settings) for s in examples.splits]
    runs: list[Run] = []
    for split in splits:
        runs += [Run(split=split, labels=examples.labels, seed=seed) for seed in seeds]
        both = np.concatenate([split.train, split.val])
        for shuffle, false in enumerate(floors.shuffled_labels(examples, both, shuffles)):
            labels = examples.labels.copy()
            labels[both] = false  # also validation's, or the choice of the state would know
            runs.append(Run(split=split, labels=labels, seed=shuffle, shuffle=shuffle))
    rows = np.concatenate([s.test for s in splits])
    place = {int(row): i for i, row in enumerate(rows)}
    outputs = np.zeros((len(seeds) + shuffles, len(rows), examples.classes))
    for _, group in groupby(sorted(runs, key=lambda r: r.shape), key=lambda r: r.shape):
        alike = list(group)
        for one, said_NC in zip(alike, train(examples, alike, settings), strict=True):
            at = seeds.index(one.seed) if one.shuffle is None else len(seeds) + one.shuffle
            outputs[at, [place[int(i)] for i in one.split.test]] = said_NC
    note = {} if len(splits[0].val) else {"validation": "none, so the last state is tested"}
    return Outcome(
        rows=rows, outputs=outputs[: len(seeds)], shuffled=outputs[len(seeds) :], notes=note
    )


def _with_validation(examples: Examples, split: Split, settings: Published) -> Split:
    from sklearn.model_selection import train_test_split

    if len(split.val) or settings.val_share is None:
        return split
    labels = examples.labels[split.train]
    strata = None if examples.task.kind == "regression" else labels
    if strata is not None and np.unique(strata, return_counts=True)[1].min() < 2:
        strata = None
    state = _DRAWN[examples.task.scheme]
    learn, held = train_test_split(
        split.train, test_size=settings.val_share, random_state=state, stratify=strata
    )
    return Split(train=np.asarray(learn), val=np.asarray(held), test=split.test)
