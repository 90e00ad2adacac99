"""A path or a Hugging Face Hub id -> local files, and the commit that they are of.

A Hub id is ``owner/name`` or ``owner/name@revision``; one file of a repository is
``hf://owner/name/file`` or ``hf://owner/name@revision/file``, as in huggingface_hub's own
addresses. What exists on disk is always taken for a path.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_ID = re.compile(
    r"(?P<full>hf://)?(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w.-]+))?(/(?P<file>.+))?"
)
# A name with such an ending is a file that is not there, never a repository.
_FILES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")
# What a text model needs: no other framework's copy of the weights, no example code.
TEXT_MODEL = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")


class HubError(OSError):
    """A model that the Hub does not hand out; says what to do."""


@dataclass(frozen=True)
class HubId:
    """A repository of models on the Hub.

    Attributes:
        repo: ``owner/name``.
        revision: Branch, tag or commit; None is the default branch.
        file: One file of it, None for the repository.
    """

    repo: str
    revision: str | None = None
    file: str | None = None


@dataclass(frozen=True)
class Local:
    """Files on this computer, and the commit they are of when they came from the Hub."""

    path: Path
    commit: str | None = None


def parse(source: str) -> HubId | None:
    """The Hub id that a text is, or None."""
    found = _ID.fullmatch(source)
    if found is None or (found["file"] and not found["full"]):
        return None
    if not found["full"] and source.endswith(_FILES):
        return None
    return HubId(found["repo"], found["revision"], found["file"])


def locate(source: str | Path, files: Sequence[str]) -> Local:
    """Find a file or folder, downloading it when it is a Hub id.

    Args:
        source: Path or Hub id.
        files: What to fetch of a repository when the id names no file; the folder is returned.

    Raises:
        FileNotFoundError: Neither there nor a Hub id, or the repository has no such file.
        HubError: The Hub has no such model, guards it, or cannot be reached.
    """
    if Path(source).exists():
        return Local(Path(source))
    known = parse(str(source))
    if known is None:
        raise FileNotFoundError(
            f"no file or folder {source}; a Hub id is owner/name, owner/name@revision or "
            "hf://owner/name/file"
        )
    if known.file:
        path = _download(known.repo, known.file, known.revision)
        return Local(path, _commit(path))
    if not files:
        raise FileNotFoundError(f"{source} is a repository; name a file: hf://{known.repo}/<file>")
    path = _download(known.repo, files[0], known.revision)
    for name in files[1:]:  # of the same commit, since a branch may move meanwhile
        _download(known.repo, name, _commit(path))
    return Local(path.parent, _commit(path))


def text_model(model: str, revision: str | None = None) -> Local:
    """The files of a text model: a folder as it is, or a snapshot from the Hub.

    Raises:
        HubError: The Hub has no such model, guards it, or cannot be reached.
    """
    if Path(model).is_dir():
        return Local(Path(model))
    from huggingface_hub import snapshot_download

    with explained(model):
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=[*TEXT_MODEL]))
        if not any(folder.rglob("*.safetensors")):
            patterns = [*TEXT_MODEL, "pytorch_model*.bin"]
            folder = Path(snapshot_download(model, revision=revision, allow_patterns=patterns))
    return Local(folder, folder.name)


@contextmanager
def explained(repo: str) -> Iterator[None]:
    """Turn the Hub's refusals into one sentence that says what to do.

    Raises:
        HubError: In place of huggingface_hub's own errors, except a missing file.
    """
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise HubError(
            f"{repo} is gated: accept its terms on https://huggingface.co/{repo} while signed in, "
            "then run `hf auth login` with a token of that account"
        ) from error
    except RevisionNotFoundError as error:
        raise HubError(f"{repo} has no such revision: {error}") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise HubError(
            f"no folder {repo} here and no such model on the Hub that this account may see"
        ) from error
    except LocalEntryNotFoundError as error:
        raise HubError(
            f"{repo} is not in the local cache and the Hub cannot be reached (or is switched off "
            "by HF_HUB_OFFLINE)"
        ) from error
    except EntryNotFoundError:
        raise
    except HfHubHTTPError as error:
        raise HubError(f"the Hub answered with an error for {repo}: {error}") from error


def _download(repo: str, file: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        with explained(repo):
            return Path(hf_hub_download(repo, file, revision=revision))
    except EntryNotFoundError as error:
        raise FileNotFoundError(
            f"{repo} has no {file}; if it is no checkpoint of ours, name one of its files as "
            f"hf://{repo}/<file>"
        ) from error


def _commit(path: Path) -> str:
    """Of a file in the cache, whose layout is ``snapshots/<commit>/<file>``."""
    while path.parent.name != "snapshots":
        path = path.parent
    return path.name
