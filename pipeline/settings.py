"""Environment variables and acula.toml -> one typed Settings object; a misspelling is an error."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from acula_model import recipes
from pipeline import roots
from pipeline.cluster import Cluster, checked
from pipeline.manifest import load_all
from pipeline.rewriter_address import parse

FILE = Path("acula.toml")
PREFIX = "ACULA_"
Head = Literal["linear", "mlp", "attentive", "finetune"]


class SettingsError(ValueError):
    """A setting with a wrong name or value; says what is allowed."""


def _all_datasets() -> tuple[str, ...]:
    return tuple(load_all())


def _list(value: Any, what: str) -> list[str]:
    if not isinstance(value, str | list | tuple):
        raise ValueError(f"{value!r} is no list of {what}")
    names = [str(v).strip() for v in (value.split(",") if isinstance(value, str) else value)]
    return [n for n in names if n]


def _known(names: list[str]) -> None:
    if wrong := [n for n in names if n not in load_all()]:
        raise ValueError(f"no dataset {', '.join(wrong)}; valid ids: {', '.join(load_all())}")


def _sources(archives: str) -> tuple[str, dict[str, str]]:
    """The source of every dataset, and those of single ones."""
    first, *rest = [a.strip() for a in archives.removesuffix(",").split(",")]
    exceptions = {dataset: source for dataset, _, source in (e.partition("=") for e in rest)}
    _known(list(exceptions))
    return first, exceptions


class Settings(BaseSettings):
    """Where data live and what to run. Environment variables win over acula.toml."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, toml_file=FILE, extra="forbid")

    data_root: Path = Field(
        Path("data"),
        description="folder for everything that is made, or a URL (`s3://bucket/name`, `gs://...`)",
    )
    work_folder: Path = Field(
        Path("data"), description="folder of this computer to work in when the data root is a URL"
    )
    archives: str = Field(
        "sample",
        description="`sample`, `download`, or a folder with one unpacked archive per dataset id; "
        "then, after commas, exceptions such as `mmlung=/data/mmlung`",
    )
    mirror: str | None = Field(
        None,
        description="folder or URL (file, s3, https) with <id>/<file>, tried before publishers",
    )
    agreed: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="ids of datasets whose licence agreement you accept"
    )
    editions: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="other forms of archives, such as `uk_covid19=published,coughvid=v3`"
    )
    downloads_at_once: int = Field(4, ge=1, le=16, description="files fetched at the same time")
    keep_downloads: bool = Field(
        True, description="keep the packed files after they were unpacked and verified"
    )
    locks: Path | None = Field(None, description="folder of locks; default beside manifests")
    datasets: Annotated[tuple[str, ...], NoDecode] = Field(
        default_factory=_all_datasets, description="dataset ids, separated by commas"
    )
    recipe: str = Field(
        "sample", description="named training run; `sample+shuffled_reports` is one with a change"
    )
    train_processes: int | None = Field(
        None, ge=1, description="training processes; default one per GPU, or one"
    )
    trackers: Annotated[tuple[Literal["mlflow", "wandb"], ...], NoDecode] = Field(
        (), description="where else training curves go: `mlflow`, `wandb` (install them yourself)"
    )
    heads: Annotated[tuple[Head, ...], NoDecode] = Field(
        ("linear",),
        description="probe heads: `linear` (always), `mlp`, `attentive`, `finetune` (slow), "
        "separated by commas",
    )
    sample_seed: int = Field(1, description="seed of the built-in sample archives")
    sample_scale: float = Field(
        2.0, gt=0, le=10, description="their size; 1 is about 250 recordings per dataset"
    )
    workers: int | None = Field(None, ge=1, description="data processes; default all cores")
    compute: Annotated[str, AfterValidator(checked)] = Field(
        "local",
        description="where data work is done: `local`, `dask` (a Dask cluster on this computer) or "
        "`tcp://host:port` of a scheduler",
    )
    rewriter: str = Field(
        "none",
        description="language model that puts reports into other words: `none`, "
        "`https://host/v1#model`, `local:owner/name@commit` or `local:/folder`",
    )
    rewriter_key_variable: str | None = Field(
        None, description="name of the environment variable that holds the endpoint's key"
    )
    rewrites_per_minute: int = Field(
        60, ge=1, le=60_000, description="requests that the endpoint gets in a minute at most"
    )
    marks: Path | None = Field(
        None, description="file of listeners' marks; default marks.jsonl in the data root"
    )
    exclude_marks: bool = Field(False, description="leave out pairs marked as doubtful")
    executor: Literal["in_process", "multiprocess"] = Field(
        "in_process", description="Dagster executor; data steps use all cores in either"
    )

    _store: str | None = None

    @model_validator(mode="wrap")
    @classmethod
    def _root(cls, values: Any, build: Callable[[Any], Self]) -> Self:
        """With a URL as data root, ``data_root`` is the working folder and ``store`` the URL."""
        root = values.get("data_root")
        if not (isinstance(root, str) and "://" in root):
            return build(values)
        work = values.get("work_folder", cls.model_fields["work_folder"].default)
        made = build(values | {"data_root": work})
        made._store = root.rstrip("/")
        return made

    @property
    def store(self) -> str | None:
        """The URL where finished data lie; None where they stay in ``data_root``."""
        return self._store

    @field_validator("archives")
    @classmethod
    def _archives(cls, value: str) -> str:
        first, exceptions = _sources(value)
        for source in (first, *exceptions.values()):
            named = bool(source) and Path(source).is_dir()  # Path("") is the folder one is in
            if source not in ("sample", "download") and not named:
                raise ValueError(
                    f"{source!r} is neither `sample` nor `download` nor an existing folder"
                )
        return value

    @field_validator("datasets", "agreed", mode="before")
    @classmethod
    def _ids(cls, value: Any, info: ValidationInfo) -> Any:
        names = _list(value, "dataset ids")
        _known(names)
        if not names and info.field_name == "datasets":
            raise ValueError(f"name at least one dataset of: {', '.join(load_all())}")
        return tuple(dict.fromkeys(names))

    @field_validator("editions", mode="before")
    @classmethod
    def _editions(cls, value: Any) -> Any:
        pairs = _list(value, "editions")
        for pair in pairs:
            dataset, _, edition = pair.partition("=")
            _known([dataset])
            load_all()[dataset].edition(edition)
        return tuple(pairs)

    @field_validator("rewriter", "recipe")
    @classmethod
    def _named(cls, value: str, info: ValidationInfo) -> str:
        (parse if info.field_name == "rewriter" else recipes.named)(value)
        return value

    @field_validator("rewriter_key_variable")
    @classmethod
    def _key_variable(cls, value: str | None) -> str | None:
        # The value is not repeated: a key may have been put here by mistake.
        if value is not None and not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", value):
            raise ValueError("this is the name of a variable, never the key itself")
        if value is not None and value.upper().startswith(PREFIX):
            raise ValueError(f"variables that begin with {PREFIX} are settings; take another name")
        return value

    def archive_of(self, dataset: str) -> str:
        """Where a dataset's archive comes from: ``sample``, ``download`` or its own folder."""
        first, exceptions = _sources(self.archives)
        if dataset in exceptions:
            return exceptions[dataset]
        return first if first in ("sample", "download") else str(Path(first) / dataset)

    def edition_of(self, dataset: str) -> str | None:
        """The edition chosen for a dataset, or None for its manifest's own."""
        chosen = {name: edition for name, _, edition in (e.partition("=") for e in self.editions)}
        return chosen.get(dataset)

    def mirrored(self, dataset: str, name: str) -> list[str]:
        """Where the mirror would have a file: one URL, or none without a mirror."""
        if not self.mirror:
            return []
        web = self.mirror.startswith(("http://", "https://"))
        return [f"{self.mirror.rstrip('/')}/{dataset}/{quote(name) if web else name}"]

    @property
    def cluster(self) -> Cluster | None:
        """Where data work goes, unless this computer's own processes do it."""
        return None if self.compute == "local" else Cluster(self.compute, self.data_root)

    @property
    def alignment(self) -> tuple[str, ...]:
        """The chosen datasets that have reports; the others are probed only."""
        return tuple(d for d in self.datasets if load_all()[d].use == "alignment")

    @property
    def evaluated(self) -> tuple[str, ...]:
        """The chosen datasets whose recordings can be had.

        What is given out on request counts as a sample or with a folder of its own: without, it is
        left out of the tasks, with a note, and stops nothing else.
        """
        return tuple(d for d in self.datasets if self._obtainable(d))

    def _obtainable(self, dataset: str) -> bool:
        source = self.archive_of(dataset)
        return load_all()[dataset].access == "open" or source == "sample" or Path(source).is_dir()

    @field_validator("heads", mode="before")
    @classmethod
    def _heads(cls, value: Any) -> Any:
        # The headline and every comparison read the linear head; the order says nothing.
        names = {*_list(value, "heads"), "linear"}
        known = [h for h in get_args(Head) if h in names]
        return (*known, *sorted(names - {*known}))

    @field_validator("trackers", mode="before")
    @classmethod
    def _trackers(cls, value: Any) -> Any:
        return tuple(_list(value, "trackers"))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load(**overrides: Any) -> Settings:
    """The settings in force; a URL as data root holds for its working folder from here on.

    Raises:
        SettingsError: A variable or key does not exist, or a value is not allowed.
    """
    names = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    wrong = sorted(v for v in os.environ if v.upper().startswith(PREFIX) and v.upper() not in names)
    if wrong:
        raise SettingsError(f"no setting {', '.join(wrong)}; valid: {', '.join(sorted(names))}")
    try:
        settings = Settings(**overrides)
    except TOMLDecodeError as error:
        raise SettingsError(f"{FILE}: {error}") from error
    except ValidationError as error:
        valid = ", ".join(Settings.model_fields)
        lines = [
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}"
            + (f" (valid settings: {valid})" if e["type"] == "extra_forbidden" else "")
            for e in error.errors()
        ]
        raise SettingsError("; ".join(lines)) from error
    roots.bind(settings.data_root, settings.store)
    return settings
