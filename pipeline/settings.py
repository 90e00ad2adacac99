"""Environment variables and acula.toml -> one typed Settings object; a misspelling is an error."""

import os
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from acula_model.recipes import RECIPES
from pipeline.manifest import load_all

FILE = Path("acula.toml")
PREFIX = "ACULA_"


class SettingsError(ValueError):
    """A setting with a wrong name or value; says what is allowed."""


def _all_datasets() -> tuple[str, ...]:
    return tuple(m.id for m in load_all().values() if m.use == "alignment")


class Settings(BaseSettings):
    """Where data live and what to run. Environment variables win over acula.toml."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, toml_file=FILE, extra="forbid")

    data_root: Path = Field(Path("data"), description="folder for everything that is made")
    archives: str = Field(
        "sample",
        description="`sample`, `download`, or a folder with one unpacked archive per dataset id",
    )
    datasets: Annotated[tuple[str, ...], NoDecode] = Field(
        default_factory=_all_datasets, description="dataset ids, separated by commas"
    )
    recipe: str = Field("demo", description="named training run")
    sample_seed: int = Field(1, description="seed of the built-in sample archives")
    sample_scale: float = Field(
        2.0, gt=0, le=10, description="their size; 1 is about 250 recordings per dataset"
    )
    workers: int | None = Field(
        None, ge=1, description="processes for data work; default all cores"
    )
    executor: Literal["in_process", "multiprocess"] = Field(
        "in_process", description="Dagster executor; data steps use all cores in either"
    )

    @field_validator("archives")
    @classmethod
    def _archives(cls, value: str) -> str:
        if value not in ("sample", "download") and not Path(value).is_dir():
            raise ValueError(f"{value!r} is neither `sample` nor `download` nor an existing folder")
        return value

    @field_validator("datasets", mode="before")
    @classmethod
    def _datasets(cls, value: Any) -> Any:
        if not isinstance(value, str | list | tuple):
            raise ValueError(f"{value!r} is no list of dataset ids")
        names = [str(v).strip() for v in (value.split(",") if isinstance(value, str) else value)]
        names = [n for n in names if n]
        known = _all_datasets()
        if wrong := [n for n in names if n not in known]:
            raise ValueError(f"no dataset {', '.join(wrong)}; valid ids: {', '.join(known)}")
        if not names:
            raise ValueError(f"name at least one dataset of: {', '.join(known)}")
        return tuple(dict.fromkeys(names))

    @field_validator("recipe")
    @classmethod
    def _recipe(cls, value: str) -> str:
        if value not in RECIPES:
            raise ValueError(f"no recipe {value!r}; valid names: {', '.join(RECIPES)}")
        return value

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
    """The settings in force.

    Raises:
        SettingsError: A variable or key does not exist, or a value is not allowed.
    """
    names = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    wrong = sorted(v for v in os.environ if v.upper().startswith(PREFIX) and v.upper() not in names)
    if wrong:
        raise SettingsError(f"no setting {', '.join(wrong)}; valid: {', '.join(sorted(names))}")
    try:
        return Settings(**overrides)
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
