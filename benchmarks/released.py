"""One training step of the published release by its own code, to time beside ours.

Its checkouts are named by environment variables and nothing of them is changed on disk: REF_ACULA
(github.com/janine714/AcuLA) and REF_OPERA (github.com/evelyn0414/OPERA). They need `timm`,
`pytorch_lightning` and `efficientnet_pytorch`. What they import and never call (torchvision,
torchaudio, augly) may be absent, and their `.cuda()` does nothing where there is no GPU.
"""

import contextlib
import importlib.util
import io
import os
import sys
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import torch

CHECKOUTS = ("REF_ACULA", "REF_OPERA")
NEVER_CALLED = ("torchvision", "torchaudio", "augly", "seaborn")


def available() -> bool:
    """Whether both checkouts are named."""
    return all(name in os.environ for name in CHECKOUTS)


def cached_teacher(batch: int, width: int) -> Callable[[], float]:
    """A step of the release, without the forward pass of its language model.

    Masked pass, clean pass, two heads, its alignment loss, AdamW, clipping: `main.py` as it is,
    with vectors that are ready.

    Args:
        batch: Windows in a step.
        width: Of the teacher; the release fixes 2048.
    """
    audio_model, wrap = _code()
    language_model = torch.nn.Linear(1, 1)  # is kept and never called
    language_model.config = SimpleNamespace(hidden_size=width)  # pyright: ignore
    model = wrap(audio_model, language_model).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, weight_decay=1e-2)
    random = torch.Generator().manual_seed(0)
    mel = torch.rand(batch, 256, 64, generator=random)
    text = torch.randn(batch, width, generator=random)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        masked = model.audio_model(mel)[0]
        sound = model.audio_projection_mlp(model.audio_model.forward_feature(mel))
        report = model.language_projection_mlp(text)
        loss = masked + model.compute_alignment_loss(sound, report)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return float(loss)

    return step


class _Absent(MetaPathFinder, Loader):
    """Stands in for packages that are imported and never called."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = [n for n in names if importlib.util.find_spec(n) is None]

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        wanted = fullname.partition(".")[0] in self.names
        return ModuleSpec(fullname, self, is_package=True) if wanted else None

    def create_module(self, spec: ModuleSpec) -> Any:
        return MagicMock(__path__=[], __version__="0", __name__=spec.name)

    def exec_module(self, module: Any) -> None:
        pass


def _code() -> tuple[torch.nn.Module, Any]:
    """Its OPERA-GT, and the class that wraps it."""
    import transformers  # noqa: F401  # looks for torchvision before the stand-in is there

    acula, opera = (Path(os.environ[name]).resolve() for name in CHECKOUTS)
    sys.meta_path.append(_Absent(NEVER_CALLED))
    sys.path[:0] = [str(opera), str(acula)]
    import timm.layers  # pyright: ignore
    import timm.models  # pyright: ignore

    # OPERA tells its users to copy its Swin blocks over those of timm.
    sys.modules["timm.models.layers"] = timm.layers
    own = opera / "src/model/mae_utils/swin_transformer.py"
    spec = importlib.util.spec_from_file_location("timm.models.swin_transformer", own)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.__package__ = "timm.models"
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if not torch.cuda.is_available():
        torch.Tensor.cuda = lambda self, *_, **__: self  # pyright: ignore
        torch.cuda.synchronize = lambda *_, **__: None  # pyright: ignore
    with contextlib.redirect_stdout(io.StringIO()):
        from model import SelfSupervisedAudioAlignmentModel  # pyright: ignore
        from src.model.models_mae import mae_vit_small  # pyright: ignore

        # The arguments of the release's audio_encoder.py.
        encoder = mae_vit_small(
            norm_pix_loss=False, in_chans=1, audio_exp=True, img_size=(256, 64), alpha=0.0, mode=0,
            use_custom_patch=False, split_pos=False, pos_trainable=False, use_nce=False,
            decoder_mode=1, mask_2d=False, mask_t_prob=0.7, mask_f_prob=0.3, no_shift=False,
        ).float()  # fmt: skip
    return encoder, SelfSupervisedAudioAlignmentModel
