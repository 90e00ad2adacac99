"""datasets_manifest/<id>.yaml -> a validated Manifest. Data only; an unknown key is an error."""

from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from acula_model.evaluation import task as evaluation
from pipeline import RESOURCES
from pipeline.sources import (
    NO_LISTS,
    Contents,
    Edition,
    FileTree,
    PublishedLists,
    RemoteFile,
    Strict,
    Unpacking,
)
from pipeline.tasks import Task
from pipeline.vocabulary import Authority, Concept

FOLDER = RESOURCES / "datasets_manifest"


class Licence(Strict):
    name: str
    url: str | None = None
    source: str = Field(description="where the licence is stated, and how sure that is")
    commercial_use: bool | None = Field(None, description="None: not stated")
    agreement: str | None = Field(
        None, description="what a user must agree to, in ACULA_AGREED, before the first byte"
    )


class FindingSpec(Strict):
    """How one fact is coded in the archive and called in English.

    kind ``code``: one key of ``words``; ``codes``: several of them; ``number``: a number in
    ``unit``; ``flag``: true (present) or false (stated absent).
    """

    kind: Literal["code", "codes", "number", "flag"]
    label: str = Field(description="what it is called in tables and plots")
    about: str = ""
    words: dict[str, str] = Field({})
    unit: str | None = None
    absent: list[str] = Field([], description="codes that state absence")
    unknown: list[str] = Field([], description="codes by which the source says it cannot tell")
    bands: list[float] = Field([], description="edges that group numbers for the term teacher")
    heard: bool = Field(
        False, description="somebody heard it in the sound; kept from the probe that hears none"
    )
    concept: Concept | None = Field(None, description="what it is, in the words of all datasets")
    stated_by: Authority | None = Field(None, description="whose word it is")
    always: str | float | None = Field(
        None, description="the publisher says it of all recordings, so that no row repeats it"
    )
    snomed: dict[str, str] = Field({}, description="SNOMED CT concept of a code, where certain")

    @model_validator(mode="after")
    def _consistent(self) -> "FindingSpec":
        if self.kind in ("code", "codes"):
            if not self.words:
                raise ValueError("a finding of kind code needs words")
            if strangers := [c for c in self.absent + self.unknown if c not in self.words]:
                raise ValueError(f"absent/unknown codes without a word: {strangers}")
            if strangers := [c for c in self.snomed if c not in self.words]:
                raise ValueError(f"SNOMED CT concepts of codes without a word: {strangers}")
            if self.always is not None and self.always not in self.words:
                raise ValueError(f"no word for what is always so: {self.always}")
        elif self.words or self.absent or self.unknown:
            raise ValueError(f"words, absent and unknown do not apply to kind {self.kind}")
        if self.kind == "number" and self.unit is None:
            raise ValueError("a number needs a unit ('1' for a plain count)")
        if self.bands != sorted(set(self.bands)):
            raise ValueError(f"bands must rise; got {self.bands}")
        return self


class Manifest(Strict):
    """Everything about one dataset that is data: source, terms, code words, tasks."""

    id: Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]
    title: str
    description: str
    use: Literal["alignment", "probes"] = "alignment"
    homepage: str
    version: str
    licence: Licence
    attribution: str
    citation: list[str] = Field(min_length=1)
    access: Literal["open", "request"] = "open"
    instructions: str = Field("", description="what a person must do where no program can")
    files: list[RemoteFile] = Field([])
    tree: FileTree | None = None
    unpack: list[Unpacking] = Field([])
    about_bytes: int | None = Field(None, description="packed size as reported, where not exact")
    unpacked_bytes: int | None = Field(None, description="room that the unpacked files need")
    contents: list[Contents] = Field([])
    editions: dict[str, Edition] = Field({})
    published: PublishedLists | None = None
    stand_in: str = Field("", description="what names likely persons where no id does, in words")
    findings: dict[str, FindingSpec]
    tasks: dict[str, Task] = Field({})

    @model_validator(mode="after")
    def _source_is_complete(self) -> "Manifest":
        if self.access == "request" and not self.instructions:
            raise ValueError("access on request needs instructions")
        if self.access == "open" and not (self.files or self.tree):
            raise ValueError("name the files to fetch, or `access: request` with instructions")
        names = [f.name for f in self.files]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"files named twice: {', '.join(twice)}")
        for edition in self.editions.values():
            strangers = [
                pattern
                for pattern in edition.members_of
                if not any(fnmatch(n, pattern) for n in (self.published or NO_LISTS).files)
            ]
            if strangers:
                raise ValueError(f"members_of: no published list {', '.join(strangers)}")
        return self

    @model_validator(mode="after")
    def _names_exist(self) -> "Manifest":
        for task_id, task in self.tasks.items():
            for name in (task.label, *task.masks, *task.where):
                if name not in self.findings:
                    raise ValueError(
                        f"task {task_id}: no finding {name!r}; known: {', '.join(self.findings)}"
                    )
            self._label_fits(task_id, task, self.findings[task.label])
            for name, allowed in task.where.items():
                if wrong := [c for c in allowed if c not in self.findings[name].words]:
                    raise ValueError(f"task {task_id}: no word for {name} {wrong}")
            listed = (self.published or NO_LISTS).files
            if wrong := [path for path in task.listed_files if path not in listed]:
                raise ValueError(f"task {task_id}: no published list {', '.join(wrong)}")
        return self

    @staticmethod
    def _label_fits(task_id: str, task: Task, spec: FindingSpec) -> None:
        codes = [c for own in task.codes.values() for c in own]
        kinds = ("number",) if task.kind == "regression" else ("code", "flag")
        if spec.kind not in kinds:
            raise ValueError(
                f"task {task_id}: a {task.kind} label is a {' or '.join(kinds)}; "
                f"{task.label} is a {spec.kind}"
            )
        if spec.kind == "flag" and not all(isinstance(c, bool) for c in codes):
            raise ValueError(f"task {task_id}: a flag is true or false; got {codes}")
        if spec.kind == "code" and (wrong := [c for c in codes if c not in spec.words]):
            raise ValueError(f"task {task_id}: no word for label codes {wrong}")

    def evaluation_task(self, name: str) -> evaluation.Task:
        """One task as the evaluation sees it.

        Raises:
            KeyError: The dataset has no such task; lists those it has.
        """
        if name not in self.tasks:
            raise KeyError(f"{self.id} has no task {name!r}; valid: {', '.join(self.tasks)}")
        task = self.tasks[name]
        return evaluation.Task(
            id=f"{self.id}/{name}",
            title=task.title,
            kind=task.kind,
            classes=tuple(task.codes),
            unit=self.findings[task.label].unit or "",
            aggregate=task.aggregate,
            scheme=task.scheme,
            published=task.published,
        )

    def edition(self, name: str | None) -> "Manifest":
        """This manifest as one of its editions has it; None is the default one.

        Raises:
            ValueError: There is no such edition; lists those there are.
        """
        if name is None:
            return self
        if name not in self.editions:
            known = ", ".join(self.editions) or "none"
            raise ValueError(f"{self.id} has no edition {name!r}; valid: {known}")
        changes = {
            k: v for k, v in self.editions[name] if k in type(self).model_fields and v is not None
        }
        return self.model_copy(update=changes)

    @property
    def strict_masks(self) -> frozenset[str]:
        """Findings that a strict report leaves out: the labels and what gives them away."""
        return frozenset(n for t in self.tasks.values() for n in (t.label, *t.masks))


# The same safe rules in C, where PyYAML has it: twelve manifests take 0.03 s instead of 0.3.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(path: Path) -> Manifest:
    """Read one manifest.

    Raises:
        ValueError: The file is not valid; names the file and every wrong key.
    """
    try:
        manifest = Manifest.model_validate(yaml.load(path.read_text(encoding="utf-8"), _LOADER))
    except (ValidationError, yaml.YAMLError) as error:
        raise ValueError(f"{path.name}: {error}") from error
    if manifest.id != path.stem:
        raise ValueError(f"{path.name}: id is {manifest.id!r}; it must equal the file's name")
    return manifest


@cache
def load_all(folder: Path = FOLDER) -> dict[str, Manifest]:
    """All manifests by id; the folder is the list."""
    return {m.id: m for m in (load(p) for p in sorted(folder.glob("*.yaml")))}
