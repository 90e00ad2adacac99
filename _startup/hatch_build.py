"""Ships the start-up hook with editable installs too (wheels have `force-include`)."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_FILES = ("acula_dagster_default.pth", "_acula_dagster_default.py")


class StartupHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            for name in _FILES:
                build_data["force_include_editable"][f"{self.root}/_startup/{name}"] = name
