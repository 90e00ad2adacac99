"""Hidden states of a text's tokens -> one vector, whatever the padding."""

# B = texts, L = tokens of the longest, D = width of a state

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

# mean          all tokens that are not padding, with those the tokenizer adds (BOS, CLS, SEP):
#               what sentence encoders call mean pooling
# mean_content  the same without the added ones; BOS of many decoders is an outlier that hides
#               the words
# last          the last token that is not padding: the only one of a decoder that has read all
# cls           the first token: of encoders trained to gather the text there
Pooling = Literal["mean", "mean_content", "last", "cls"]


def pool(kind: Pooling, hidden_BLD: "Tensor", real_BL: "Tensor", special_BL: "Tensor") -> "Tensor":
    """Pool the states of right-padded texts.

    Args:
        kind: One of ``Pooling``.
        hidden_BLD: States, float.
        real_BL: 1 for a token, 0 for padding.
        special_BL: True for padding and for tokens that the tokenizer added.

    Returns:
        [B, D].
    """
    if kind == "cls":
        return hidden_BLD[:, 0]
    if kind == "last":
        last_B = real_BL.sum(1) - 1
        return hidden_BLD[range(len(hidden_BLD)), last_B]
    counted_BL = ~special_BL if kind == "mean_content" else real_BL.bool()
    # Not a product with 0: a state of padding that is not finite would spoil the sum.
    kept_BLD = hidden_BLD.masked_fill(~counted_BL.unsqueeze(-1), 0.0)
    return kept_BLD.sum(1) / counted_BL.sum(1, keepdim=True)
