"""Lets the literal `dagster asset ...` find this project's definitions.

`[tool.dagster] module_name` in pyproject.toml is honoured by `dagster dev` but ignored by
`dagster asset ...`. A `.pth` file imports this module at interpreter start, only for
`dagster asset`; it then exports the same setting as DAGSTER_MODULE_NAME. Any explicit
target (`-m`, `-f`, a DAGSTER_* pointer variable) is left alone.
"""

import os
import sys
import tomllib
from pathlib import Path

_FLAGS = ("-m", "-f", "-w", "--module-name", "--python-file", "--package-name", "--workspace")
_VARIABLES = ("DAGSTER_MODULE_NAME", "DAGSTER_PYTHON_FILE", "DAGSTER_PACKAGE_NAME")


def _names_a_target(argument: str) -> bool:
    return argument.startswith(_FLAGS)


def _apply() -> None:
    if any(map(_names_a_target, sys.orig_argv[3:])) or any(v in os.environ for v in _VARIABLES):
        return
    # A parent folder counts too: the definitions then say that this is the wrong folder,
    # which is more use than Dagster's "invalid arguments".
    here = Path.cwd()
    project = next(
        (p for f in (here, *here.parents) if (p := f / "pyproject.toml").is_file()), None
    )
    if project is None:
        return
    settings = tomllib.loads(project.read_text(encoding="utf-8")).get("tool", {})
    module = settings.get("dagster", {}).get("module_name")
    if module:
        os.environ["DAGSTER_MODULE_NAME"] = module


_apply()
