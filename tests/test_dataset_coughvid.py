"""COUGHVID: reader on the sample archive, on hand-made traps and on the real table; reports."""

import csv
import io
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from worlds import SCALE, SHARED, archive_of, needs

from pipeline import manifest
from pipeline.findings import resolve
from pipeline.readers import coughvid as reader
from pipeline.records import Recording, Rejected
from pipeline.samples import coughvid as sample
from pipeline.steps.reports import render

REAL = SHARED / "real"
needs_real = needs(REAL / "coughvid")
SPEC = manifest.load(manifest.FOLDER / "coughvid.yaml")
SEED = 3
A, B, C = (f"0000000{i}-0000-4000-8000-000000000000" for i in "123")
archive = archive_of(sample.write, SEED)


@pytest.fixture(scope="module")
def entries(archive) -> list[Recording | Rejected]:
    return list(reader.read(archive))


def recordings(entries) -> dict[str, Recording]:
    return {e.native_id: e for e in entries if isinstance(e, Recording)}


def reasons(entries) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for e in entries:
        if isinstance(e, Rejected):
            found.setdefault(e.reason, []).append(e.name)
    return found


def decode(content: bytes) -> tuple[np.ndarray, int]:
    with av.open(io.BytesIO(content), "r") as file:
        frames = list(file.decode(audio=0))
    return np.concatenate([f.to_ndarray() for f in frames], axis=1), frames[0].sample_rate


def small(root: Path, *rows: dict[str, str], audio: tuple[str, ...] = (), v3: bool = False) -> Path:
    """An archive with these table rows and empty audio files."""
    folder = root / ("public_dataset_v3/coughvid_20211012" if v3 else "public_dataset")
    folder.mkdir(parents=True)
    for name in audio:
        (folder / name).touch()
    rows = tuple({"cough_detected": "0.9", **row} for row in rows)
    columns = list(dict.fromkeys(k for row in rows for k in row))
    with (folder / "metadata_compiled.csv").open("w", newline="") as lines:
        table = csv.DictWriter(lines, [""] * v3 + columns, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    return root


def one(root: Path, **row: str) -> Recording | Rejected:
    made = small(root, {"uuid": A, "cough_detected": "0.9", **row}, audio=(f"{A}.webm",))
    (entry,) = reader.read(made)
    return entry


def test_every_row_and_every_file_of_the_sample_is_accounted_for_once(archive, entries):
    folder = archive / "public_dataset"
    with (folder / "metadata_compiled.csv").open(newline="") as lines:
        rows = {row["uuid"]: row for row in csv.DictReader(lines)}
    files = {p.stem: p.name for p in folder.iterdir() if p.suffix in (".webm", ".ogg")}
    found, refused = recordings(entries), reasons(entries)
    low = {u for u, row in rows.items() if float(row["cough_detected"]) < 0.8}
    (unlisted,) = files.keys() - rows.keys()
    assert set(refused["excluded"]) == low and low
    assert refused["no_metadata"] == [files[unlisted]]
    assert set(refused["no_audio_file"]) == rows.keys() - files.keys() - low
    assert len(refused["no_audio_file"]) == 1
    assert found.keys() == (rows.keys() & files.keys()) - low
    assert len(entries) == len(rows) + 1
    assert any(r.row["cough_detected"] == "0.8000" for r in found.values())
    assert Counter(Path(r.member).suffix for r in found.values())[".webm"] > len(found) / 2


def test_the_sample_holds_every_task_label_and_links_people_by_proxy_only(entries):
    found = recordings(entries).values()
    status = Counter(r.findings.get("status") for r in found)
    assert 0.35 < status["COVID-19"] / (status["COVID-19"] + status["healthy"]) < 0.5
    assert status["symptomatic"] and status[None]
    assert {r.findings.get("sex") for r in found} >= {"female", "male", None}
    assert all(r.person is None and r.case_id == r.native_id for r in found)
    groups: dict[str, list[Recording]] = {}
    for r in found:
        if r.proxy:
            groups.setdefault(r.proxy, []).append(r)
            assert len(r.proxy.split(",")) == 4 and "" not in r.proxy.split(",")
    assert any(len(g) > 1 for g in groups.values())
    assert all(len({r.findings["status"] for r in g}) == 1 for g in groups.values())
    assert any(r.proxy is None and "age" in r.findings for r in found), "place missing"


def test_audio_traps_of_the_sample(archive, entries):
    content = {u: (archive / r.member).read_bytes() for u, r in recordings(entries).items()}
    assert sum(not c for c in content.values()) == 1, "zero bytes"
    content = {u: c for u, c in content.items() if c}
    heads = {u: int.from_bytes(c[(h := c.index(b"OpusHead") + 12) : h + 4], "little")
             for u, c in content.items()}  # fmt: skip
    assert Counter(heads.values())[16000] == 1
    sounds = {u: decode(c) for u, c in content.items()}
    assert {rate for _, rate in sounds.values()} == {48000}
    assert {x.shape[0] for x, _ in sounds.values()} == {1}
    seconds = sorted(x.shape[1] / 48000 for x, _ in sounds.values())
    assert 0.25 < seconds[0] < 0.4, "a blip"
    assert seconds[1] < 2.5, "truncated"
    assert seconds[2] >= 4 and seconds[-1] < 6.1
    assert sum(np.abs(x).max() < 1e-3 for x, _ in sounds.values()) == 1, "silent"
    assert any(np.abs(x).max() > 1 for x, _ in sounds.values()), "above full scale"
    ((twice, _),) = (pair for pair in Counter(content.values()).most_common(1))
    same = [recordings(entries)[u] for u, c in content.items() if c == twice]
    assert len(same) == 2 and {r.proxy for r in same} == {None}
    webm = next(archive / r.member for u, r in recordings(entries).items()
                if r.member.endswith(".webm") and u in content)  # fmt: skip
    with av.open(str(webm)) as file:
        assert file.duration is None


def test_a_file_depends_on_the_seed_and_itself_alone(archive, tmp_path):
    uploads = [u for u in sample._ordinary(SEED, SCALE)]
    for suffix in (".webm", ".ogg"):
        upload = next(u for u in uploads if u.suffix == suffix)
        path = tmp_path / f"{upload.name}{suffix}"
        sample._audio(path, SEED, upload)
        assert path.read_bytes() == (archive / "public_dataset" / path.name).read_bytes()
        sample._audio(path, SEED, replace(upload, key="another"))
        assert path.read_bytes() != (archive / "public_dataset" / path.name).read_bytes()


def test_booleans_are_words(tmp_path):
    entry = one(tmp_path, respiratory_condition="False", fever_muscle_pain="True")
    assert isinstance(entry, Recording)
    assert entry.findings["respiratory_condition"] is False
    assert entry.findings["fever_muscle_pain"] is True


def test_what_was_not_answered_is_not_a_finding(tmp_path):
    entry = one(tmp_path, age="", gender="", status="", latitude="1.0", longitude="2.0")
    assert isinstance(entry, Recording)
    assert entry.findings == {"cough_detected": 0.9}
    assert entry.proxy is None


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"cough_detected": "0.7999"}, "excluded"),
        ({"cough_detected": "high"}, "bad_metadata"),
        ({"cough_detected": ""}, "bad_metadata"),
        ({"fever_muscle_pain": "0"}, "bad_metadata"),
        ({"nothing_1": "True"}, "bad_metadata"),  # the five signs are missing
    ],
)
def test_rows_that_cannot_be_used(tmp_path, row, reason):
    entry = one(tmp_path, **row)
    assert isinstance(entry, Rejected) and (entry.name, entry.reason) == (A, reason)


@pytest.mark.parametrize(
    ("nothing", "wheezing", "signs"),
    [("True", "False", ("nothing",)), ("False", "True", ("wheezing",)),
     ("True", "True", None), ("False", "False", None)],
)  # fmt: skip
def test_nothing_beside_a_sign_or_no_tick_at_all_is_not_recorded(
    tmp_path, nothing, wheezing, signs
):
    no = dict.fromkeys(("dyspnea_3", "stridor_3", "choking_3", "congestion_3"), "False")
    entry = one(tmp_path, quality_3="ok", **no, wheezing_3=wheezing, nothing_3=nothing)
    assert isinstance(entry, Recording)
    assert entry.findings.get("signs_3") == signs


def test_names_second_files_and_second_rows(tmp_path):
    short = A[:-1]  # the name as a well-known converter cuts it
    small(tmp_path, {"uuid": A}, {"uuid": A}, audio=(f"{A}.ogg", f"{A}.webm", f"{short}.ogg"))
    found = list(reader.read(tmp_path))
    assert recordings(found)[A].member == f"public_dataset/{A}.ogg"
    assert reasons(found) == {
        "bad_name": [f"{short}.ogg"], "no_metadata": [f"{A}.webm"], "bad_metadata": [A]
    }  # fmt: skip


def test_sidecars_serve_what_the_table_lacks(tmp_path):
    small(tmp_path, {"uuid": A}, audio=(f"{A}.webm", f"{B}.webm", f"{C}.webm"))
    said = {"quality": "good", "cough_type": "wet", "diagnosis": "lower_infection"}
    sidecar = {"cough_detected": "0.9524", "age": "62", "expert_labels_3": said}
    (tmp_path / "public_dataset" / f"{B}.json").write_text(json.dumps(sidecar))
    (tmp_path / "public_dataset" / f"{C}.json").write_text("{")
    found = list(reader.read(tmp_path))
    assert recordings(found)[B].findings == {
        "cough_detected": 0.9524, "age": 62.0, "quality_3": "good", "cough_type_3": "wet",
        "diagnosis_3": "lower_infection",
    }  # fmt: skip
    assert reasons(found) == {"bad_metadata": [C]}


def test_version_3_layout(tmp_path):
    small(tmp_path, {"uuid": A, "status": "healthy"}, audio=(f"{A}.wav",), v3=True)
    (entry,) = reader.read(tmp_path)
    assert isinstance(entry, Recording)
    assert entry.member == f"public_dataset_v3/coughvid_20211012/{A}.wav"


def test_an_archive_without_metadata_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="needs the folder public_dataset"):
        list(reader.read(tmp_path))
    (tmp_path / "public_dataset").mkdir()
    with pytest.raises(FileNotFoundError, match=r"metadata_compiled\.csv"):
        list(reader.read(tmp_path))


@needs_real
def test_the_real_table_is_accounted_for_and_every_code_has_a_word(tmp_path):
    found = list(reader.read(REAL / "coughvid"))
    assert {k: len(v) for k, v in reasons(found).items()} == {
        "excluded": 9326, "no_audio_file": 10746
    }  # fmt: skip
    assert len(found) == 20072
    table = REAL / "coughvid" / "public_dataset" / "metadata_compiled.csv"
    audio = tmp_path / "a.webm"
    kept = [reader._entry(tmp_path, name, row, audio) for name, row in reader._rows(table, [])]
    kept = [entry for entry in kept if isinstance(entry, Recording)]
    above = [r for r in kept if r.row["cough_detected"] != "0.8000"]
    assert len(kept) - len(above) == 3
    assert Counter(r.findings.get("status") for r in above) == {
        "healthy": 5626, "symptomatic": 1135, "COVID-19": 547, None: 3435
    }  # fmt: skip
    no_cough = [r for r in above if "no_cough" in (r.findings.get(f"quality_{k}") for k in "123")]
    assert len(no_cough) == 19
    for i, r in enumerate(kept):
        resolve(SPEC, r.findings)
        if i % 40 == 0:
            assert render(SPEC, r.native_id, r.findings, SPEC.strict_masks).text


@needs_real
def test_real_sidecars_and_the_real_version_3_file(tmp_path):
    (tmp_path / "public_dataset").symlink_to(
        REAL / "surrogates" / "coughvid" / "SURROGATE_public_dataset"
    )
    found = list(reader.read(tmp_path))
    audio = [p for p in (tmp_path / "public_dataset").iterdir() if p.suffix in (".webm", ".ogg")]
    assert len(found) == len(audio) == 28
    low = [json.loads(p.with_suffix(".json").read_text()) for p in audio]
    low = [s for s in low if float(s["cough_detected"]) < 0.8]
    assert {k: len(v) for k, v in reasons(found).items()} == {"excluded": len(low)}
    triple = recordings(found)["6c9a5f33-9e90-4c08-8782-20b0d86abc46"]
    assert [triple.findings[f"cough_type_{k}"] for k in "123"] == ["dry", "wet", "wet"]


def report(omit=(), **findings) -> str:
    return render(SPEC, "coughvid/x", findings, omit).text


def test_a_full_and_a_strict_report():
    told = {
        "cough_detected": 0.95, "age": 18.0, "sex": "female", "status": "COVID-19",
        "respiratory_condition": False, "fever_muscle_pain": True,
        "quality_2": "ok", "cough_type_2": "wet", "signs_2": ("dyspnea", "wheezing"),
        "diagnosis_2": "obstructive_disease", "severity_2": "severe",
        "quality_3": "good", "cough_type_3": "unknown", "signs_3": ("nothing",),
        "diagnosis_3": "healthy_cough", "severity_3": "pseudocough",
    }  # fmt: skip
    reported = (
        "By self-report, the participant had COVID-19. By self-report, the participant had fever "
        "or muscle pain but no other respiratory condition. "
    )
    who = "The cough recording was crowdsourced from an 18-year-old female participant. "
    assert report(**told) == (
        f"{reported}{who}Expert 2: quality acceptable; wet cough; dyspnea and wheezing; "
        "obstructive "
        "disease; severe. Expert 3: quality good; cough type unclear; no specific sign; healthy "
        "cough; pseudocough."
    )
    strict = reported.partition(". ")[2] + who.replace("female ", "")
    assert report(SPEC.strict_masks, **told) == (
        f"{strict}Expert 2: quality acceptable; wet cough; dyspnea and wheezing. Expert 3: quality "
        "good; cough type unclear; no specific sign."
    )
    alone = {k: v for k, v in told.items() if not k.endswith("_3")}
    heard = (
        "Expert 2 rated the recording quality as acceptable, called the cough wet, noted dyspnea "
        "and wheezing, attributed the cough to an obstructive disease, and graded the cough as "
        "severe."
    )
    assert report(**alone) == reported + who + heard
    assert report(SPEC.strict_masks, **alone) == (
        strict + heard.partition(", attributed")[0].replace("noted", "and noted") + "."
    )


def test_reports_of_unknown_and_missing_values():
    nothing = (
        "An automatic detector gave this crowdsourced recording a cough probability of {} out of 1."
    )
    assert report(cough_detected=0.9994) == nothing.format("0.9994")
    strict = report(SPEC.strict_masks, cough_detected=0.9994, status="healthy")
    assert strict == nothing.format("0.9994")
    assert report(cough_detected=0.9, sex="other", status="symptomatic") == (
        "By self-report, the participant was symptomatic. The cough recording was crowdsourced "
        f"from a participant (sex: other). {nothing.format('0.9000')}"
    )
    heard_none = {"quality_1": "no_cough", "cough_type_1": "dry", "diagnosis_1": "healthy_cough"}
    assert report(cough_detected=0.9, age=9.0, **heard_none) == (
        "The cough recording was crowdsourced from a 9-year-old participant. "
        "Expert 1 heard no cough in the recording."
    )
    man = "The cough recording was crowdsourced from a male participant. "
    ungraded = {"quality_1": "poor", "diagnosis_1": "COVID-19", "severity_1": "unknown"}
    assert report(cough_detected=0.9, sex="male", **ungraded) == (
        f"{man}Expert 1 rated the recording quality as poor, attributed the cough to COVID-19 and "
        "could not tell the severity."
    )
    graded = {"quality_3": "good", "severity_3": "mild"}
    assert report(cough_detected=0.9, sex="male", **graded) == (
        f"{man}Expert 3 rated the recording quality as good and graded the cough as mild."
    )
