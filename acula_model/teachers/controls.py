"""Teachers that know too little on purpose; what a gain must beat.

``random_text`` gives every report its own random vector: which report it is, and nothing that it
says. ``bag_of_words`` knows which words occur and nothing of what they mean.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from acula_model.teachers import Report, Text, as_reports, hash_of

# Raise by one when the same reports would get other vectors: old ones are then not reused.
VERSION = 1
WIDTH = 512


class RandomText:
    """A standard normal vector per text, seeded by a hash of its words."""

    model, layer, pooling = "random_text", 0, "none"

    def __init__(self):
        self.revision = str(VERSION)

    def embed(self, texts: Sequence[Text]) -> npt.NDArray[np.float32]:
        """float32 [texts, 512]."""
        seeds = [int(hash_of(r.text), 16) for r in as_reports(texts)]
        rows = [np.random.default_rng(s).standard_normal(WIDTH, np.float32) for s in seeds]
        return np.stack(rows) if rows else np.zeros((0, WIDTH), np.float32)


class BagOfWords:
    """Counts of hashed words, unit length; Weinberger et al., "Feature hashing", 2009."""

    model, layer, pooling = "bag_of_words", 0, "sum of words"

    def __init__(self):
        self.revision = str(VERSION)

    def embed(self, texts: Sequence[Text]) -> npt.NDArray[np.float32]:
        """float32 [texts, 512].

        Raises:
            ValueError: A text without a word.
        """
        from sklearn.feature_extraction.text import HashingVectorizer

        reports = as_reports(texts)
        if empty := [r.hash for r in reports if not r.text.strip()]:
            raise ValueError(f"{len(empty)} texts have nothing to read in them, such as {empty[0]}")
        counts = HashingVectorizer(n_features=WIDTH, token_pattern=r"(?u)\b\w+\b")
        found: Any = counts.transform([r.text for r in reports])
        return found.toarray().astype(np.float32)


def random_text(fit_on: Sequence[Report]) -> RandomText:
    """See the class."""
    return RandomText()


def bag_of_words(fit_on: Sequence[Report]) -> BagOfWords:
    """See the class."""
    return BagOfWords()
