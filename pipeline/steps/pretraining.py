"""What published encoder weights have heard before any training of ours, in words, by dataset.

OPERA: its released code and file lists (Zhang et al., Towards Open Respiratory Acoustic
Foundation Models, NeurIPS 2024): train and validation lists of the UK COVID-19 and COUGHVID
corpora, ICBHI's official train side, HF Lung's train side. Files of its own tests were kept out;
our split without shared persons need not agree with its lists.
"""

from collections.abc import Mapping

from acula_model.recipes import Recipe

_LISTS = (
    "OPERA's pretraining heard its train and validation lists of this corpus, not its test list"
)
_SIDE = "OPERA's pretraining heard the official train side, and no official test recording"
HEARD: Mapping[str, Mapping[str, str]] = {
    "opera": {
        "uk_covid19": f"{_LISTS}; persons that we test may be in them",
        "coughvid": f"{_LISTS}; recordings that we test may be in them",
        "icbhi": _SIDE,
        "hflung": _SIDE,
    }
}


def words(recipe: Recipe, dataset: str) -> str:
    """What the weights that a recipe starts from had heard of a dataset."""
    if recipe.weights is None:
        return "none: the encoder started from random weights"
    family = next((f for f in HEARD if recipe.encoder.startswith(f"{f}_")), None)
    if family is None or family not in recipe.weights.lower():
        return f"not known: nothing is on record about what {recipe.weights} has heard"
    return HEARD[family].get(dataset, "none: the corpus is not in the encoder's pretraining lists")
