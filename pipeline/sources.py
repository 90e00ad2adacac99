"""The part of a manifest that says where a dataset's files come from and what they must hold."""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

_SHA256 = "^[0-9a-f]{64}$"


class Strict(BaseModel):
    """A model that refuses unknown keys and changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RemoteFile(Strict):
    """One file of the publisher; unknown sizes and checksums stay None."""

    name: Annotated[str, Field(pattern=r"^[\w@+-][\w@+. -]*(/[\w@+-][\w@+. -]*)*$")]
    urls: list[str] = Field(min_length=1, description="in the order to try them")
    bytes: int | None = None
    sha256: Annotated[str, Field(pattern=_SHA256)] | None = None
    md5: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None
    git: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None = Field(
        default=None,
        description="git's name of the content: sha1 of its blob",
    )
    generated: bool = Field(
        default=False,
        description="packed anew by the host: other bytes may hold the same content",
    )
    note: str = ""


class FileTree(Strict):
    """Many files below one URL, named with their checksums by a list."""

    base: str = Field(description="URL to which the paths of the list are appended")
    sums: str = Field(description="one of `files`, or a file beside the manifest")
    hash: Literal["sha256", "git"] = "sha256"
    keep: list[str] = Field(["*"], description="globs over the listed paths; * crosses slashes")
    instead_of: str | None = Field(
        None, description="fetched only where this one of `files` cannot be had"
    )


class Unpacking(Strict):
    """How archives become files; volumes with one stem (``a.7z.001``, ``.z01``) are one archive."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    source: str = Field(alias="from", description="glob over file names; volumes in their order")
    format: Literal["zip", "tar.gz", "7z"]
    root: str = Field("", description="glob: leading folders called so are dropped, however many")
    keep: list[str] = Field(["*"], description="globs over what is left of member paths")
    into: str = Field("", description="folder below the archive's root")
    nested: bool = Field(False, description="`from` names files that an earlier step unpacked")
    partial: bool = Field(
        False, description="an edition may read its members by Range, without the rest"
    )


class Contents(Strict):
    """What lies in the unpacked archive: a grammar of paths and how many there are."""

    what: str
    path: str = Field(description="regular expression of the end of a path, from a slash on")
    count: int | None = None


class PublishedLists(Strict):
    """Lists, labels and splits of a published benchmark, pinned by checksum.

    A published name and a recording are the same where both rules find the same; what several
    groups of a rule find is joined by underscores.
    """

    base: str
    licence: str
    files: dict[str, Annotated[str, Field(pattern=_SHA256)]]
    name: str = Field(
        default=r"([^/]+)\.wav$",
        description="regular expression that finds the recording in a name",
    )
    native_id: str = Field(
        default="^(.+)$", description="regular expression that finds the same in our own id"
    )

    @field_validator("name", "native_id")
    @classmethod
    def _finds(cls, rule: str) -> str:
        if not re.compile(rule).groups:
            raise ValueError(f"{rule}: what is found stands in a group")
        return rule


NO_LISTS = PublishedLists(base="", licence="", files={})


class Edition(Strict):
    """Another form of the same dataset; what it names replaces the manifest's own."""

    about: str
    version: str | None = None
    files: list[RemoteFile] | None = None
    unpack: list[Unpacking] | None = None
    contents: list[Contents] | None = None
    unpacked_bytes: int | None = None
    members_of: list[str] = Field(
        [], description="published lists (globs): only members that they name are fetched"
    )
