"""csv, tsv or parquet, one file or one per side -> a Split."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from pipeline.doctor.columns import SplitError, listed
from pipeline.doctor.table import Choices, Split, build


def load(sources: Sequence[str], choices: Choices) -> Split:
    """Read one table, or one per side written ``train=a.csv test=b.csv``.

    Raises:
        SplitError: With one sentence on what to do.
    """
    named = [_named(s) for s in sources]
    if len(named) > 1 and not all(side for side, _ in named):
        raise SplitError("name the side of each file: train=a.csv test=b.csv")
    tables = [(side, _read(path)) for side, path in named]
    if named[0][0] is None:
        return build(Path(sources[0]).name, tables[0][1], choices)
    whole = pd.concat([t.assign(**{_SIDE: side}) for side, t in tables], ignore_index=True)
    roles = {**choices.roles, "side": _SIDE}
    name = " ".join(f"{side}={path.name}" for side, path in named)
    return build(name, whole, replace(choices, roles=roles))


_SIDE = "side by file"


def _named(source: str) -> tuple[str | None, Path]:
    side, equals, path = source.partition("=")
    if equals and not Path(source).exists():
        return side, Path(path)
    return None, Path(source)


def _read(path: Path) -> pd.DataFrame:
    """A table of text; cells that say nothing are empty."""
    if not path.is_file():
        raise SplitError(
            f"{path} is no file; give a csv, tsv or parquet, or a task such as icbhi/copd"
        )
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            table = pd.read_parquet(path)
            text = table.astype(object).where(table.notna(), "").map(str)
            return _checked(path, [str(c) for c in table.columns], text)
        with path.open(newline="", encoding="utf-8-sig") as lines:
            first = lines.readline()
            lines.seek(0)
            mark = max(",;\t|", key=first.count)
            cells = [row for row in csv.reader(lines, delimiter=mark) if row]
    except UnicodeDecodeError as error:
        raise SplitError(f"{path} is not UTF-8 text; save it as UTF-8 csv") from error
    except (ValueError, csv.Error, OSError) as error:  # parser errors of pandas and pyarrow, too
        raise SplitError(f"{path} cannot be read as a table: {_line(error)}") from error
    header, rows = (cells[0], cells[1:]) if cells else ([], [])
    odd = next((i for i, row in enumerate(rows) if len(row) != len(header)), None)
    if odd is not None:
        found = f"row {odd + 2} has {len(rows[odd])} cells and the header {len(header)}"
        raise SplitError(f"{path} cannot be read as a table: {found}")
    return _checked(path, header, pd.DataFrame(rows, columns=range(len(header)), dtype=str))


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _checked(path: Path, header: list[str], table: pd.DataFrame) -> pd.DataFrame:
    header = [h.strip() or f"column {i + 1}" for i, h in enumerate(header)]
    if not header or table.empty:
        raise SplitError(
            f"{path} has no rows; give a table with a header and one row per recording"
        )
    if twice := [name for name, n in Counter(header).items() if n > 1]:
        raise SplitError(f"{path} has two columns called {listed(twice)}; rename one of them")
    return table.set_axis(header, axis=1)
