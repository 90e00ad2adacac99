"""The two kinds of Excel file that archives hold, as few bytes as their readers accept.

Written by hand because the bytes must depend on the content alone (libraries add the time), and
because nothing maintained still writes the legacy kind.
"""

import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

Cell = str | float | None
_MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def xlsx(path: Path, sheets: Mapping[str, Sequence[Sequence[Cell]]]) -> None:
    """Sheets of rows as an Office Open XML workbook (ECMA-376)."""
    numbered = list(enumerate(sheets.items(), start=1))
    kinds = "".join(
        f'<Override PartName="/xl/worksheets/sheet{i}.xml" ContentType="{_TYPE}.worksheet+xml"/>'
        for i, _ in numbered
    )
    names = "".join(
        f'<sheet name="{escape(name)}" sheetId="{i}" r:id="r{i}"/>' for i, (name, _) in numbered
    )
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPE}.sheet.main+xml"/>'
        f"{kinds}</Types>",
        "_rels/.rels": _relations({"r1": ("officeDocument", "xl/workbook.xml")}),
        "xl/workbook.xml": f'<workbook {_MAIN} xmlns:r="{_OFFICE}">'
        f"<sheets>{names}</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": _relations(
            {f"r{i}": ("worksheet", f"worksheets/sheet{i}.xml") for i, _ in numbered}
        ),
        **{f"xl/worksheets/sheet{i}.xml": _sheet(rows) for i, (_, rows) in numbered},
    }
    with zipfile.ZipFile(path, "w") as file:
        for name, text in parts.items():
            content = f'<?xml version="1.0" encoding="UTF-8"?>{text}'
            file.writestr(zipfile.ZipInfo(name, _EPOCH), content)


def _relations(targets: Mapping[str, tuple[str, str]]) -> str:
    lines = "".join(
        f'<Relationship Id="{key}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        for key, (kind, target) in targets.items()
    )
    return f'<Relationships xmlns="{_PACKAGE}/relationships">{lines}</Relationships>'


def _sheet(rows: Sequence[Sequence[Cell]]) -> str:
    lines: list[str] = []
    for r, row in enumerate(rows, start=1):
        cells = "".join(
            f'<c r="{chr(65 + c)}{r}" t="inlineStr"><is><t xml:space="preserve">{escape(cell)}</t>'
            "</is></c>"
            if isinstance(cell, str)
            else f'<c r="{chr(65 + c)}{r}"><v>{cell!r}</v></c>'
            for c, cell in enumerate(row)
            if cell is not None
        )
        lines.append(f'<row r="{r}">{cells}</row>')
    return f"<worksheet {_MAIN}><sheetData>{''.join(lines)}</sheetData></worksheet>"


def xls(path: Path, cells: Mapping[tuple[int, int], str | float]) -> None:
    """Cells by (row, column), both from 0, as a BIFF2 worksheet: Excel 2's file, a bare stream."""
    records = [_biff(0x0009, struct.pack("<HH", 0x0002, 0x0010))]  # BOF: version, worksheet
    for (row, column), value in sorted(cells.items()):
        at = struct.pack("<HH3x", row, column)
        if isinstance(value, str):
            text = value.encode("ascii")
            records.append(_biff(0x0004, at + bytes([len(text)]) + text))
        else:
            records.append(_biff(0x0003, at + struct.pack("<d", value)))
    path.write_bytes(b"".join([*records, _biff(0x000A, b"")]))


def _biff(kind: int, content: bytes) -> bytes:
    return struct.pack("<HH", kind, len(content)) + content
