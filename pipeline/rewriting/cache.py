"""What models answered, by the content of the question; added to and never changed.

One SQLite file. Each answer is a transaction of its own, so a killed run keeps all that it had.
"""

import fcntl
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.rewriting import Answer, RewriteError, Rewriter
from pipeline.rewriting.prompt import Prompt

_TABLES = """
CREATE TABLE IF NOT EXISTS prompts (version TEXT PRIMARY KEY, template TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, prompt_version TEXT NOT NULL, model TEXT NOT NULL,
    revision TEXT NOT NULL, options TEXT NOT NULL, source TEXT NOT NULL,
    answer TEXT NOT NULL, finish TEXT NOT NULL, answered_by TEXT NOT NULL, at TEXT NOT NULL
);
"""
_AT_ONCE = 500  # keys in one look-up; SQLite has a limit


@dataclass(frozen=True)
class Question:
    """Everything that decides what a model is asked to do with one text."""

    prompt: Prompt
    model: str
    revision: str
    options: str
    source: str

    @property
    def key(self) -> str:
        """sha256 of all of it."""
        said = [self.prompt.version, self.model, self.revision, self.options, self.source]
        return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode()).hexdigest()


def question(prompt: Prompt, rewriter: Rewriter, source: str) -> Question:
    """The question that a rewriter is asked about a text."""
    options = json.dumps(dict(rewriter.options), sort_keys=True)
    return Question(prompt, rewriter.name, rewriter.revision, options, source)


class Cache:
    """The file of answers; made when it is first written to.

    Args:
        path: Of the file. Its folder must allow file locks.
    """

    def __init__(self, path: Path):
        self._path = path

    def find(self, keys: Sequence[str]) -> dict[str, tuple[str, Answer]]:
        """key -> (source text, answer), of those keys that are known."""
        if not self._path.is_file():
            return {}
        found: dict[str, tuple[str, Answer]] = {}
        with self._open() as file:
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                found |= {
                    key: (source, Answer(text=text, revision=by, finish=finish))
                    for key, source, text, by, finish in file.execute(
                        "SELECT key, source, answer, answered_by, finish FROM answers "
                        f"WHERE key IN ({marks})",
                        some,
                    )
                }
        return found

    @contextmanager
    def writing(self, wait: Callable[[], None] = lambda: None) -> Iterator["Writer"]:
        """The file, to add to; one process at a time.

        So the limit on requests holds for the computer, a model is loaded once, and what another
        process asked meanwhile is there to be found.

        Args:
            wait: Called once if another process is at it.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                wait()
                fcntl.flock(lock, fcntl.LOCK_EX)
            with self._open() as file:
                yield Writer(file)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            # Every statement is a transaction of its own.
            file = sqlite3.connect(self._path, timeout=60, isolation_level=None)
            try:
                file.executescript(_TABLES)  # a kill may have left a file without them
                yield file
            finally:
                file.close()
        except sqlite3.Error as error:
            raise RewriteError("bad_cache", str(self._path), str(error)) from error


class Writer:
    """The open file of answers."""

    def __init__(self, file: sqlite3.Connection):
        self._file = file

    def add(self, asked: Question, answer: Answer) -> None:
        """Keep an answer; on return it survives a kill. The first answer to a question stays."""
        self._file.execute(
            "INSERT OR IGNORE INTO prompts VALUES (?, ?)",
            (asked.prompt.version, asked.prompt.template),
        )
        self._file.execute(
            "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                asked.key,
                asked.prompt.version,
                asked.model,
                asked.revision,
                asked.options,
                asked.source,
                answer.text,
                answer.finish,
                answer.revision,
                datetime.now(UTC).isoformat(timespec="seconds"),
            ),
        )
