"""The environment in which report templates run: jinja's sandbox, with our own objects let through.

A template may only do what the sandbox allows. Its questions about each attribute and each call
take longer than a whole report otherwise does, so they are not asked of what this project hands
to the template and of macros, which are of the templates themselves.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import MethodType
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from jinja2.environment import TemplateModule
from jinja2.meta import find_undeclared_variables
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pipeline.findings import Finding

_OF_FINDING = frozenset({"name", "label", "status", "value", "words", "unit", "terms", "word"})


class Verbs:
    """Base of objects whose methods a template is given to call."""


class Findings:
    """``f`` in a template: ``f.name`` is the finding of that name. Has no other attribute."""

    def __init__(self, look: Callable[[str], Finding]):
        self.__look = look

    def __getitem__(self, name: str) -> Finding:
        return self.__look(name)


class _Template(Template):
    """A module is made once and not per import, where it reads nothing of what imports it."""

    def make_module(
        self,
        vars: dict[str, Any] | None = None,
        shared: bool = False,
        locals: Mapping[str, Any] | None = None,
    ) -> TemplateModule:
        given = (vars or {}, locals or {})
        if not all(self._reads.isdisjoint(names) for names in given):
            return super().make_module(vars, shared, locals)
        if self._module is None:
            self._module = super().make_module(vars, shared, locals)
        return self._module

    @cached_property
    def _reads(self) -> set[str]:
        """Names that it may take from its context."""
        environment, name = self.environment, self.name or ""
        assert environment.loader
        source = environment.loader.get_source(environment, name)[0]
        return find_undeclared_variables(environment.parse(source, name))


class _Sandbox(ImmutableSandboxedEnvironment):
    template_class = _Template

    def getattr(self, obj: Any, attribute: str) -> Any:
        kind = type(obj)
        if kind is Findings:
            return obj[attribute]
        if kind is Finding and attribute in _OF_FINDING:
            return getattr(obj, attribute)
        if kind is TemplateModule and type(macro := vars(obj).get(attribute)) is Macro:
            return macro
        return super().getattr(obj, attribute)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        ours = type(__obj) is MethodType and isinstance(__obj.__self__, Verbs)
        if not ours and type(__obj) is not Macro:
            return super().call(__context, __obj, *args, **kwargs)
        if kwargs:  # jinja's own, for what asks for the context
            kwargs.pop("_loop_vars", None)
            kwargs.pop("_block_vars", None)
        return __obj(*args, **kwargs) if ours else __obj(__context.eval_ctx, *args, **kwargs)


def environment(folder: Path, reload: bool = True) -> Environment:
    """Templates of a folder, compiled once; ``reload``: an edited one is read again."""
    environment = _Sandbox(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=reload,
    )
    del environment.filters["random"]  # the same recording has the same report
    return environment
