"""templates/rewriting/prompt.j2 + a report -> what the model is asked; versioned by its bytes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pipeline import RESOURCES

FILE = RESOURCES / "templates" / "rewriting" / "prompt.j2"
_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)


@dataclass(frozen=True)
class Prompt:
    """What stands around a report."""

    template: str

    @property
    def version(self) -> str:
        """Other words are another version."""
        return hashlib.sha256(self.template.encode()).hexdigest()[:16]

    def about(self, report: str) -> str:
        """The prompt with a report in it."""
        return _ENVIRONMENT.from_string(self.template).render(report=report)


def load(path: Path = FILE) -> Prompt:
    """The prompt in force.

    Raises:
        ValueError: It uses another variable than ``report``, or does not hold the report.
    """
    prompt = Prompt(path.read_text(encoding="utf-8"))
    mark = "(the report)"
    try:
        whole = prompt.about(mark)
    except TemplateError as error:
        raise ValueError(f"{path.name}: {error}") from error
    if whole.count(mark) != 1:
        raise ValueError(f"{path.name}: write {{{{ report }}}} once; there it goes")
    return prompt
