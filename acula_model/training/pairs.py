"""Which pairs are learned from, in which groups, and what each report's vector is."""

# B = pairs, L = layers of the teacher, E = teacher width

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from acula_model.training.errors import TrainingError

Vectors = Mapping[str, npt.NDArray[np.float32]]


class Pairs:
    """The pairs of one role (alignment or gauge).

    Attributes:
        groups: ``<dataset>/<modality>`` -> its pair ids, sorted.
        report: pair id -> hash of its report. Pairs that are only listened to have none.
        layers: L, hidden states of the teacher per report.
        width: E.
    """

    def __init__(
        self,
        meta: Mapping[str, Mapping[str, Any]],
        vectors: Vectors,
        ids: Sequence[str],
        text: str,
        only_heard: Sequence[str] = (),
    ):
        """Look everything up, so that nothing is found missing in the middle of a run.

        Args:
            meta: pair id -> dataset, modality, ``<text>_hash`` and ``<text>_terms``.
            vectors: Report hash -> teacher vector, [E], or [L, E] of several layers.
            ids: Pairs with a report.
            text: ``full`` or ``strict``.
            only_heard: Pairs whose sound is used and whose text is not.

        Raises:
            TrainingError: A pair is unknown or has no vector, or vectors differ in shape.
        """
        wanted = [*ids, *only_heard]
        if strangers := [i for i in wanted if i not in meta]:
            raise TrainingError(
                f"{len(strangers)} of {len(wanted)} pairs are not in the shards, such as "
                f"{strangers[0]}: materialise `shards` again"
            )
        self.report: dict[str, str] = {i: meta[i][f"{text}_hash"] for i in ids}
        if bare := [i for i in ids if self.report[i] not in vectors]:
            raise TrainingError(
                f"{len(bare)} of {len(ids)} pairs have no teacher vector, such as {bare[0]}: "
                "materialise `report_embeddings` again"
            )
        shapes = {vectors[h].shape for h in self.report.values()}
        if len(shapes) > 1:
            raise TrainingError(
                f"teacher vectors of different shapes, {sorted(shapes)}: they are of more than "
                "one teacher; materialise `report_embeddings` again"
            )
        hashes = set(self.report.values())
        if bad := [h for h in sorted(hashes) if not np.isfinite(vectors[h]).all()]:
            raise TrainingError(
                f"{len(bad)} of {len(hashes)} teacher vectors are not finite, such as that of "
                f"report {bad[0]}: another precision of the teacher (`dtype`) may help"
            )
        shape = shapes.pop() if shapes else (1,)
        self.layers, self.width = shape if len(shape) == 2 else (1, shape[0])
        self._vectors = vectors
        self.groups: dict[str, list[str]] = {}
        for i in sorted(wanted):
            self.groups.setdefault(f"{meta[i]['dataset']}/{meta[i]['modality']}", []).append(i)
        self._group = {i: n for n, g in enumerate(sorted(self.groups)) for i in self.groups[g]}
        said = {i: tuple(meta[i].get(f"{text}_terms") or (self.report[i],)) for i in ids}
        number = {terms: n for n, terms in enumerate(sorted(set(said.values())))}
        self._finding = {i: number[terms] for i, terms in said.items()}

    def __len__(self) -> int:
        return sum(map(len, self.groups.values()))

    def shuffle_reports(self, seed: int) -> None:
        """Give every sound another report of its group (a control that must destroy the gain)."""
        rng = np.random.default_rng(seed)
        for members in self.groups.values():
            with_text = [i for i in members if i in self.report]
            order = rng.permutation(len(with_text))
            moved = [(self.report[i], self._finding[i]) for i in with_text]
            for i, j in zip(with_text, order, strict=True):
                self.report[i], self._finding[i] = moved[j]

    def text(self, ids: Sequence[str]) -> Tensor:
        """[B, L, E]."""
        rows = np.stack([self._vectors[self.report[i]] for i in ids])
        return torch.from_numpy(rows).reshape(len(ids), self.layers, self.width)

    def group(self, ids: Sequence[str]) -> Tensor:
        """[B]: number of the dataset and modality."""
        return torch.tensor([self._group[i] for i in ids])

    def finding(self, ids: Sequence[str]) -> Tensor:
        """[B]: equal for reports that state the same findings."""
        return torch.tensor([self._finding[i] for i in ids])


def keys(ids: Sequence[str]) -> Tensor:
    """[B]: pair ids as numbers."""
    return torch.from_numpy(np.array([int(i, 16) for i in ids], np.uint64).view(np.int64))
