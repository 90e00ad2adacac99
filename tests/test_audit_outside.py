"""The audit of reports that others wrote: csv files in three layouts, and the released ones."""

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.audit import outside
from pipeline.cli_reports import app
from pipeline.manifest import load_all

CIRCOR = load_all()["circor"]
META = '"Murmur: Present, Murmur locations: AV+MV, Most audible location: MV, Outcome: Normal"'
TRUE = "A murmur is most audible at the mitral valve and also heard at the aortic valve."


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def flagged(path: Path, join: Path | None = None) -> dict[str, int]:
    return dict(outside.audit(CIRCOR, outside.read(CIRCOR, path, join=join)).flagged)


def test_metadata_written_as_one_text(tmp_path: Path) -> None:
    table = write(
        tmp_path / "a.csv",
        "Patient_ID,Meta_Report,Gen_Report",
        f"1,{META},{TRUE}",
        f"2,{META},No murmur was heard.",
        f"3,{META},A murmur at the pulmonic area with a normal outcome.",
        '4,"Murmur: Unknown, Outcome: Normal",No murmurs; stenosis is likely.',
    )
    assert flagged(table) == {"contradiction": 2, "certainty": 1, "invention": 1}


def test_metadata_in_columns_or_in_another_file(tmp_path: Path) -> None:
    text = "There was no murmur in this child. Follow-up is recommended."
    rows = ["Patient ID,Murmur,Age,Outcome,Height", "7,Absent,Infant,Normal,nan"]
    joined = write(tmp_path / "b.csv", *rows)
    table = write(tmp_path / "a.csv", "Patient_ID,Gen_Report", f"7,{text}")
    assert flagged(table, joined) == {"contradiction": 1, "advice": 1}
    whole = write(tmp_path / "c.csv", f"{rows[0]},Gen_Report", f"{rows[1]},{text}")
    assert flagged(whole) == flagged(table, joined)


def test_one_text_in_two_rows_is_a_duplicate(tmp_path: Path) -> None:
    lines = ["Patient_ID,Murmur,Gen_Report", *(f"{i},Absent,No murmur was heard." for i in "12")]
    assert flagged(write(tmp_path / "a.csv", *lines)) == {"duplicate": 2}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["Patient_ID,Murmur", "1,Absent"], "no column 'Gen_Report'"),
        (["Patient_ID,Mood,Gen_Report", "1,Good,Fine."], "no column of circor"),
        (["Patient_ID,Murmur,Gen_Report", "1,Maybe,Fine."], "no word for murmur"),
    ],
)
def test_what_cannot_be_audited_is_said(tmp_path: Path, lines: list[str], said: str) -> None:
    table = write(tmp_path / "a.csv", *lines)
    result = CliRunner().invoke(app, ["audit", "--csv", str(table), "--dataset", "circor"])
    assert result.exit_code == 1
    assert said in result.output


def test_the_command_shows_a_table_or_json(tmp_path: Path) -> None:
    table = write(
        tmp_path / "a.csv", "Patient_ID,Murmur,Gen_Report", "1,Unknown,No murmur was heard."
    )
    options = ["audit", "--csv", str(table), "--dataset", "circor"]
    assert "certainty" in CliRunner().invoke(app, options).output
    facts = json.loads(CliRunner().invoke(app, [*options, "--json"]).output)
    assert facts["flagged"] == {"certainty": 1}
    assert facts["examples"][0]["recording_id"] == "1"


@pytest.fixture
def release(shared: Path) -> Path:
    return shared / "reference" / "acula_release" / "datasets" / "circor_dataset"


def test_released_reports_of_the_training_patients(release: Path) -> None:
    table, official = release / "training_data_report.csv", release / "training_data.csv"
    summary = outside.audit(CIRCOR, outside.read(CIRCOR, table))
    assert summary.reports == 942
    assert summary.repeated == 128
    assert dict(summary.flagged) == RELEASED
    joined = outside.audit(CIRCOR, outside.read(CIRCOR, table, join=official))
    assert joined.flagged == summary.flagged


# Patients whose text has the defect, as measured. Read one by one: the contradictions, the 68
# patients of unknown murmur, the advice, and 55 of the others. Doubtful are "murmur characteristics
# not identified", counted as a murmur, and "the underlying cause", counted as an invention.
RELEASED = {
    "contradiction": 2,
    "invention": 268,
    "certainty": 66,
    "advice": 23,
    "truncated": 1,
    "duplicate": 186,
}


def test_released_reports_of_patients_whose_murmur_is_unknown(release: Path) -> None:
    said: Counter[str] = Counter()
    for split in ("training", "validation", "test"):
        rows = outside.read(CIRCOR, release / f"{split}_data_report.csv")
        for row in rows:
            if row.findings["murmur"] == "Unknown":
                summary = outside.audit(CIRCOR, iter([row]))
                details = {e.detail for e in summary.examples if e.kind == "certainty"}
                asserted = any("present" in d for d in details)
                said["asserted" if asserted else "denied" if details else "open"] += 1
    assert sum(said.values()) == 119
    assert dict(said) == {"asserted": 80, "denied": 31, "open": 8}
