"""The most recent pairs, so that a loss over pairs compares many however small a step is.

Gradient accumulation does not enlarge what such a loss compares; older pairs do (He et al.,
"Momentum Contrast", 2020; without the momentum encoder: Wang et al., "Cross-Batch Memory for
Embedding Learning", 2020, who find that embeddings drift slowly). What is kept is the encoder's
output before its head and the frozen teacher's vector. Heads are applied after joining, so they are
current, and nothing but the encoder's output is old.
"""

# B = pairs of the step, Q = pairs in the queue, N = both; D = encoder width, E = teacher width

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

NAMES = ("audio", "text", "group", "finding", "pair")


def keys(names: Sequence[str]) -> Tensor:
    """Int64 ids of any words (pairs, groups, sets of findings), [N]: equal words, equal ids.

    The first 8 bytes of sha256, so the same in every process and run.
    """
    digests = [hashlib.sha256(name.encode()).digest()[:8] for name in names]
    return torch.tensor([int.from_bytes(d, "big", signed=True) for d in digests], dtype=torch.int64)


class PairQueue:
    """First in, first out; a pair is in it once, as last seen.

    With several processes, push and join gathered rows: the queues then stay equal.
    """

    def __init__(self, size: int):
        """An empty queue.

        Args:
            size: Most pairs to keep; 0 keeps none.

        Raises:
            ValueError: A negative size.
        """
        if size < 0:
            raise ValueError(f"a queue holds 0 pairs or more, got {size}")
        self.size = size
        self._rows: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self._rows["pair"]) if self._rows else 0

    def joined(
        self, audio_BD: Tensor, text_BE: Tensor, group_B: Tensor, finding_B: Tensor, pair_B: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The step's pairs, then those of the queue that are not among them.

        Once ``size`` pairs have been seen, there are never fewer than ``size``.

        Args:
            audio_BD: Output of the encoder, [B, D]; its gradient stays.
            text_BE: Vectors of the teacher, [B, E], or [B, layers, E].
            group_B: Dataset or recording kind of each pair, int64; see ``keys``.
            finding_B: Set of findings of each pair, int64; where unknown, the pair's own id.
            pair_B: Id of each pair, int64. All five are on one device.

        Returns:
            Sounds [N, D], texts [N, E], groups [N] and findings [N], on the step's device.
        """
        step = (audio_BD, text_BE, group_B, finding_B)
        if not self._rows:
            return step
        old = self._without(pair_B)
        audio, text, group, finding = (
            torch.cat([rows, old[name]]) for name, rows in zip(NAMES[:4], step, strict=True)
        )
        return audio, text, group, finding

    def push(
        self, audio_BD: Tensor, text_BE: Tensor, group_B: Tensor, finding_B: Tensor, pair_B: Tensor
    ) -> None:
        """Keep the step's pairs, without gradient and in single precision; the oldest leave.

        Args: as for ``joined``.
        """
        audio_BD, text_BE = audio_BD.detach().float(), text_BE.detach().float()
        rows = dict(zip(NAMES, (audio_BD, text_BE, group_B, finding_B, pair_B), strict=True))
        if self._rows:
            old = self._without(pair_B)
            rows = {name: torch.cat([old[name], rows[name]]) for name in NAMES}
        first = max(0, len(rows["pair"]) - self.size)
        # A copy: the step's own tensors may be reused.
        self._rows = {name: rows[name][first:].clone() for name in NAMES}

    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed run needs, oldest pair first; empty before the first push."""
        return dict(self._rows)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue with the pairs of another queue, the newest ``size`` of them.

        Raises:
            ValueError: Not the state of a queue.
        """
        if state and (
            state.keys() != set(NAMES) or len({len(rows) for rows in state.values()}) != 1
        ):
            raise ValueError(
                f"not the state of a queue ({', '.join(NAMES)} of equal length): "
                f"{', '.join(f'{name} {list(rows.shape)}' for name, rows in state.items())}"
            )
        first = max(0, len(state["pair"]) - self.size) if state else 0
        self._rows = {name: state[name][first:].clone() for name in NAMES} if state else {}

    def _without(self, pair_B: Tensor) -> dict[str, Tensor]:
        """The rows of other pairs, on the device of these."""
        old = {name: rows.to(pair_B.device) for name, rows in self._rows.items()}
        kept_Q = ~torch.isin(old["pair"], pair_B)
        return {name: rows[kept_Q] for name, rows in old.items()}
