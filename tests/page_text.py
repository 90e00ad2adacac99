"""A results page as its reader gets it: tags, entries of the score table, and all text."""

from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """Tags with attributes, the text of each entry of the score table, and all text."""

    def __init__(self, path: Path):
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.said = ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scores: dict[tuple[str, str], str] = {}
        self.marks: dict[tuple[str, str], str] = {}
        self._entry: tuple[str, str] | None = None
        self._silent = False
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        self._silent = tag in ("style", "script")
        if tag == "tbody" and "data-task" in found:
            self._entry = (str(found["data-task"]), str(found["data-variant"]))
            self.scores[self._entry] = ""
            self.marks[self._entry] = str(found["class"]).split()[1]

    def handle_endtag(self, tag: str) -> None:
        if tag == "section":
            self._entry = None

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        self.said = f"{self.said} {' '.join(data.split())}"
        if self._entry:
            self.scores[self._entry] = " ".join(f"{self.scores[self._entry]} {data}".split())
