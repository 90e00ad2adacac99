"""Trace: every link holds, one change shows in exactly its link, and names are found both ways."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest
from conftest import TinyIcbhi
from typer.testing import CliRunner
from worlds import edit

from acula_model import checkpoint
from pipeline import cli, lineage
from pipeline.defs import dead_runs, event_log, events
from pipeline.lineage import training
from pipeline.lineage.chain import BAD
from pipeline.lineage.derived import Derived
from pipeline.manifest import load_all
from pipeline.records import pair_id
from pipeline.settings import Settings
from pipeline.steps import (
    archive,
    layout,
    pairs,
    persons,
    recordings,
    report_table,
    reports,
    shards,
    store,
    subjects,
)  # fmt: skip

Materialise = Callable[..., dict[str, store.Outcome]]
ONE = "icbhi/101_1b1_Tc_sc_Meditron"
LINKS = [
    "archive", "member", "audio", "metadata", "findings", "person", "split", "report", "pair",
    "shard",
]  # fmt: skip
# Those whose real files lie in the layout of their archive.
REAL = ["icbhi", "hflung", "coughvid", "circor", "sprsound", "kauh", "coswara", "respiratory_tr"]
SEVEN = ["icbhi", "hflung", "uk_covid19", "coughvid", "circor", "sprsound", "zchsound"]


@pytest.fixture
def root(materialise: Materialise, tiny_settings: Settings, tiny_archive: TinyIcbhi) -> Path:
    tiny_archive.wav("109_1b1_Tc_sc_Meditron").write_bytes(b"")
    tiny_archive.people["109"] = ("30", "F", "24.5", "NA", "NA")
    tiny_archive.diagnoses["109"] = "COPD"
    tiny_archive.sides["109_1b1_Tc_sc_Meditron"] = "train"
    tiny_archive.wav("109_1b1_Tc_sc_Meditron").with_suffix(".txt").write_text("0.1\t0.4\t1\t0\n")
    tiny_archive.wav("noname").write_bytes(b"RIFF")
    tiny_archive.save()
    materialise()
    return tiny_settings.data_root


def broken(root: Path, what: str = ONE) -> list[str]:
    return [link.name for link in lineage.trace(root, what, verify=True).broken]


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def test_every_link_of_an_untouched_corpus_is_verified(root: Path) -> None:
    chains = list(lineage.every(lineage.Tables(root), "icbhi", Derived()))
    assert len(chains) == 16
    for chain in chains:
        assert [link.name for link in chain.links] == LINKS
        assert {link.state for link in chain.links} == {"verified"}, chain.subject
    chain = lineage.trace(root, ONE)
    assert {link.state for link in chain.links} == {"recorded"}
    assert chain.link("metadata").facts["diagnosis"] == "COPD"
    assert chain.link("person").facts["such_as"] == ["icbhi/101_1b2_Tc_sc_Meditron"]
    said = chain.link("report").facts["full_sentences"]
    assert " ".join(s["text"] for s in said) == chain.link("report").facts["full_text"]
    json.dumps(chain.facts())


def _row(name: str, value: str) -> Callable[[dict[str, Any]], object]:
    def change(row: dict[str, Any]) -> None:
        row["row"] = json.dumps(json.loads(row["row"]) | {name: value})

    return change


def _finding(row: dict[str, Any]) -> None:
    row["findings"] = json.dumps(json.loads(row["findings"]) | {"sex": "M"})


TABLE_EDITS: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "audio": ("icbhi/recordings.parquet", lambda r: r.update(duration_s=2.5)),
    "metadata": ("icbhi/recordings.parquet", _row("age", "99")),
    "findings": ("icbhi/recordings.parquet", _finding),
    "person": ("subjects.parquet", lambda r: r.update(person_id="icbhi/999")),
    "split": ("subjects.parquet", lambda r: r.update(split="val")),
    "report": ("icbhi/reports.parquet", lambda r: r.update(full_text=r["full_text"] + "!")),
    "pair": ("pairs.parquet", lambda r: r.update(native_rate=8000)),
}


@pytest.mark.parametrize("link", TABLE_EDITS)
def test_one_changed_cell_of_a_table_shows_in_its_link(root: Path, link: str) -> None:
    table, change = TABLE_EDITS[link]
    edit(root / table, ONE, change)
    assert broken(root) == [link]


def test_one_flipped_byte_shows_in_its_link(root: Path, tiny_archive: TinyIcbhi) -> None:
    chain = lineage.trace(root, ONE)
    wav = tiny_archive.wav(ONE.removeprefix("icbhi/"))
    part = root / "icbhi" / chain.link("audio").facts["part"]
    shard = root / "shards" / chain.link("shard").facts["shard"]
    for path, at, link in (
        (wav, 2000, "member"),
        (part, chain.link("audio").facts["offset"] + 900, "audio"),
        (shard, chain.link("shard").facts["offset"] + 900, "shard"),
    ):
        flip(path, at)
        assert broken(root) == [link]
        assert len(lineage.trace(root, ONE, verify=True).link(link).note) > 30
        flip(path, at)
    assert broken(root) == []
    meta = shard.read_bytes().index(b'"split_rule": "', chain.link("shard").facts["offset"])
    flip(shard, meta + 17)
    assert broken(root) == ["shard"]


def test_one_edited_cell_of_the_raw_metadata(root: Path, tiny_archive: TinyIcbhi) -> None:
    tiny_archive.people["101"] = ("77", *tiny_archive.people["101"][1:])
    tiny_archive.save()
    assert broken(root) == ["metadata"]
    assert "77" in lineage.trace(root, ONE, verify=True).link("metadata").note
    assert broken(root, "icbhi/102_1b1_Tc_sc_Meditron") == []


def test_an_edited_annotation_shows_in_the_findings(root: Path, tiny_archive: TinyIcbhi) -> None:
    wav = tiny_archive.wav(ONE.removeprefix("icbhi/"))
    wav.with_suffix(".txt").write_text("0.1\t0.4\t0\t0\r\n0.4\t0.9\t0\t0\r\n")
    assert broken(root) == ["findings"]


def test_one_letter_of_a_template(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(reports.FOLDER, tmp_path / "templates"))
    template = folder / "icbhi.j2"
    template.write_text(template.read_text().replace("diagnosed", "diagnozed"))
    monkeypatch.setattr(reports, "FOLDER", folder)
    assert broken(root) == ["report"]


def test_one_split_rule(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {c.subject: c for c in lineage.every(lineage.Tables(root), "icbhi")}
    monkeypatch.setattr(persons, "VAL_SHARE", 1.0)
    moved = 0
    for chain in lineage.every(lineage.Tables(root), "icbhi", Derived()):
        official = before[chain.subject].link("split").facts
        changes = official["split"] == "train" and official["rule"] == "official"
        assert [link.name for link in chain.broken] == (["split"] if changes else [])
        moved += changes
    assert moved


def test_what_is_gone_is_missing_and_not_altered(root: Path, tiny_archive: TinyIcbhi) -> None:
    shutil.rmtree(root / "shards")
    assert lineage.trace(root, ONE, verify=True).link("shard").state == "missing"
    tiny_archive.root.rename(tiny_archive.root.with_name("elsewhere"))
    chain = lineage.trace(root, ONE, verify=True)
    assert chain.link("archive").state == "missing"
    assert chain.link("member").state == "recorded" and "archive" in chain.link("member").note


def test_names_are_found_forwards_and_backwards(root: Path, tiny_archive: TinyIcbhi) -> None:
    tables, key = lineage.Tables(root), pair_id(ONE)
    wav = tiny_archive.wav(ONE.removeprefix("icbhi/"))
    copy = Path(shutil.copy(wav, root.parent / "copy of it.wav"))
    chain = lineage.trace(root, ONE)
    shard = root / "shards" / chain.link("shard").facts["shard"]
    member = chain.link("member").facts["member"]
    for what in (
        key, key[:9], ONE, str(wav), str(copy), f"{shard}:{key}", f"{shard.name}:{key}",
        f"file:{member}", f"icbhi/{member}",
    ):  # fmt: skip
        assert [s.name for s in lineage.find(tables, what)] == [ONE], what
    both = [ONE, "icbhi/101_1b2_Tc_sc_Meditron"]
    assert [s.name for s in lineage.find(tables, "person:icbhi/101")] == both
    version = chain.link("report").facts["template_version"]
    assert len(lineage.find(tables, f"template:{version}")) == 16
    assert len(lineage.find(tables, version)) == 16
    assert ONE in [s.name for s in lineage.find(tables, chain.link("report").facts["full_hash"])]
    assert key in [pair_id(s.name) for s in lineage.find(tables, str(shard))]


@pytest.mark.parametrize(
    "what",
    [
        "icbhi/101_1b1_Tc_sc_Meditrom",
        "person:icbhi/1",
        "0" * 16,
        "../../etc/passwd",
        "",
        "é",
        "x" * 5000,
        "a\0b",
    ],
)
def test_unknown_names_are_refused_with_what_is_nearly_so(root: Path, what: str) -> None:
    with pytest.raises(lineage.UnknownId, match=r"nearly so|datasets here"):
        lineage.trace(root, what)
    with pytest.raises(lineage.UnknownId, match=ONE):
        lineage.trace(root, "icbhi/101_1b1_Tc_sc_Meditrom")


def test_a_refused_file_leads_to_its_reason(root: Path) -> None:
    for what, reason in (("109_1b1_Tc_sc_Meditron", "empty_file"), ("noname.wav", "bad_name")):
        chain = lineage.trace(root, what, verify=True)
        assert chain.kind == "quarantined"
        assert chain.link("quarantine").facts["reason"] == reason
        assert chain.link("quarantine").state == "verified"


def test_a_shard_alone_leads_to_the_archive(root: Path, tmp_path: Path) -> None:
    shard = root / "shards" / lineage.trace(root, ONE).link("shard").facts["shard"]
    alone = Path(shutil.copy(shard, tmp_path / "moved.tar"))
    shutil.rmtree(root)
    chain = lineage.trace_shard(alone, pair_id(ONE), verify=True)
    assert chain.sound and chain.link("audio").state == chain.link("report").state == "verified"
    assert chain.link("archive").facts["licence"]
    assert chain.link("member").facts["member"].endswith(".wav")
    flip(alone, chain.link("shard").facts["offset"] + 900)
    found = lineage.trace_shard(alone, pair_id(ONE), verify=True)
    assert [link.name for link in found.broken] == ["audio"]
    with pytest.raises(lineage.UnknownId, match="such as"):
        lineage.trace_shard(alone, "f" * 16)
    alone.write_bytes(b"nonsense")
    with pytest.raises(lineage.LineageError, match="moved"):
        lineage.trace_shard(alone, pair_id(ONE))


def test_tables_of_another_version_and_no_corpus(root: Path, tmp_path: Path) -> None:
    path = root / "subjects.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["links"]), path)
    with pytest.raises(lineage.LineageError, match=r"lacks links.*materialise `subjects` again"):
        lineage.trace(root, ONE)
    path.write_bytes(b"PAR1")
    with pytest.raises(lineage.LineageError, match="cannot be read"):
        lineage.trace(root, ONE)
    with pytest.raises(lineage.LineageError, match="holds no corpus"):
        lineage.trace(tmp_path / "nowhere", ONE)


def test_the_command(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ACULA_DATA_ROOT", str(root))
    hostile = "<script>alert(1)</script>"
    edit(root / "icbhi/recordings.parquet", ONE, _row("note", hostile))
    run, page, facts = CliRunner(), tmp_path / "a.html", tmp_path / "a.json"
    options = ["--verify", "--html", str(page), "--json", str(facts)]
    shown = run.invoke(cli.app, ["trace", ONE, *options])
    assert shown.exit_code == 1 and re.search("Metadata as they stood +ALTERED", shown.output)
    assert hostile in shown.output and hostile not in page.read_text()
    assert "&lt;script&gt;" in page.read_text()
    (chain,) = json.loads(facts.read_text())["chains"]
    states = {link["name"]: link["state"] for link in chain["links"]}
    assert [n for n, s in states.items() if s in BAD] == ["metadata"] and not chain["sound"]
    every = run.invoke(cli.app, ["trace", "icbhi", "--every", "--verify"])
    assert every.exit_code == 1 and "15 of 16 chains are sound" in every.output
    listed = run.invoke(cli.app, ["trace", "person:icbhi/102"])
    assert listed.exit_code == 0 and "2 recordings" in listed.output
    run.invoke(cli.app, ["trace", "person:icbhi/102", "--json", str(facts)])
    assert len(json.loads(facts.read_text())["subjects"]) == 2
    unknown = run.invoke(cli.app, ["trace", "icbhi/1"])
    assert unknown.exit_code == 2 and "nothing here is called" in unknown.output
    where = lineage.trace(root, ONE).link("shard").facts["shard"]
    alone = shutil.copy(root / "shards" / where, tmp_path / "moved.tar")
    monkeypatch.setenv("ACULA_DATA_ROOT", str(tmp_path / "nowhere"))
    shown = run.invoke(cli.app, ["trace", f"{alone}:{pair_id(ONE)}", "--verify"])
    assert shown.exit_code == 0 and re.search("Normalised sound +verified", shown.output)


def test_dagster_s_events_are_those_that_the_pair_was_made_of(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = store.version_at(layout.Dataset(root, "icbhi").recordings_stamp)

    @dg.asset(key=["icbhi", "archive"])
    def first() -> None: ...

    @dg.asset(key=["circor", "archive"])
    def other() -> None: ...

    @dg.asset(key=["icbhi", "recordings"], deps=[first])
    def second() -> dg.MaterializeResult[Any]:
        return dg.MaterializeResult(data_version=dg.DataVersion(version))

    @dg.asset(key="shards", deps=[second, other])
    def third() -> dg.MaterializeResult[Any]:
        return dg.MaterializeResult(data_version=dg.DataVersion("earlier"))

    shutil.copy(Path(cli.__file__).parents[1] / "dagster.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    tables = lineage.Tables(root)

    def told() -> list[lineage.Link]:
        file = event_log.index(tmp_path)
        assert file is not None
        with event_log.in_sqlite(file) as log, event_log.in_instance() as other:
            found = list(events.links(log, "icbhi", tables))
            assert found == list(events.links(other, "icbhi", tables))
        return found

    whole = lineage.trace(root, ONE)
    assert events.extended(whole, "icbhi", tables) == whole  # nothing has been materialised
    assert not (tmp_path / ".dagster_home").exists()  # and a trace makes no files
    with dead_runs.instance() as instance:
        dg.materialize([first, second, third, other], instance=instance)
        before = told()
        dg.materialize([first], instance=instance)  # made again; the shards are of the old one
        after = told()
        assert before == after
        assert [link.facts["asset"] for link in after] == [
            "shards", "icbhi/recordings", "icbhi/archive",
        ]  # fmt: skip
        assert after[1].state == "verified" and after[1].facts["data_version"] == version
        assert after[0].state == "recorded" and "made again since" in after[0].note
        instance.wipe_assets([dg.AssetKey(["icbhi", "archive"])])
        *kept, gone = told()
        assert kept == after[:2] and gone.state == "missing"
    with monkeypatch.context() as patch:
        patch.setattr(event_log, "_STORED", "SELECT what FROM nowhere WHERE ? AND ? AND ?")
        chain = events.extended(whole, "icbhi", tables)  # of a form unknown here: Dagster is asked
    assert chain.links[len(whole.links) :] == (*kept, gone)
    index = event_log.index(tmp_path)
    assert index and index.is_file()
    index.write_bytes(b"damaged" * 999)
    chain = events.extended(whole, "icbhi", tables)
    assert chain.sound and "cannot be read" in chain.link("dagster").note
    monkeypatch.setenv("DAGSTER_HOME", str(root / "nowhere"))
    chain = events.extended(lineage.trace(root, ONE), "icbhi", tables)
    assert chain.sound and "cannot be read" in chain.link("dagster").note


def test_a_trace_imports_neither_dagster_nor_pandas(root: Path, tmp_path: Path) -> None:
    """Each costs as much as all that a trace does, or more."""
    home = tmp_path / "home"
    shutil.copytree(
        Path(cli.__file__).parents[1], home, ignore=lambda _, n: set(n) - {"dagster.yaml"}
    )
    code = (
        "import sys; from pipeline.cli import app\n"
        "app(['trace', sys.argv[1]], standalone_mode=False)\n"
        "print(sorted({'dagster', 'pandas', 'torch', 'librosa'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, ONE],
        env=os.environ | {"ACULA_DATA_ROOT": str(root), "DAGSTER_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stdout


def test_the_names_of_a_checkpoint_are_the_checkpoint_s() -> None:
    assert (training.CONFIG, training.WEIGHTS) == (checkpoint.CONFIG, checkpoint.WEIGHTS)


def run_steps(at: Settings, dataset: str) -> Path:
    manifests = load_all()
    known = {dataset: manifests[dataset]}
    archive.obtain(known[dataset], at)
    found = recordings.prepare(known[dataset], at, lambda _: None).facts["recordings"]
    if not found or known[dataset].use == "probes":
        return at.data_root
    report_table.make(known[dataset], at)
    subjects.decide(at, known)
    pairs.join(at)
    shards.write(at, known, lambda _: None)
    return at.data_root


@pytest.mark.slow
@pytest.mark.parametrize("dataset", SEVEN)
def test_each_sample_dataset_verifies_down_to_the_bytes(
    settings: Callable[..., Settings], dataset: str
) -> None:
    root = run_steps(settings(datasets=dataset, sample_scale=0.1, workers=2), dataset)
    assert holds(root, dataset)[0] >= 10


def holds(root: Path, dataset: str) -> tuple[int, int]:
    """Numbers of recordings and refused names; every link of every chain is verified."""
    tables, derived = lineage.Tables(root), Derived()
    chains = list(lineage.every(tables, dataset, derived))
    for chain in chains:
        assert {link.state for link in chain.links} == {"verified"}, chain.facts()
    refused = tables.column("quarantine", "name", dataset).to_pylist()
    for name in refused[:: max(1, len(refused) // 50)]:
        subject = lineage.Subject(kind="quarantined", dataset=dataset, name=name)
        assert lineage.chain(tables, subject, derived).sound, name
    return len(chains), len(refused)


@pytest.mark.parametrize("dataset", REAL)
def test_the_real_recordings_verify_down_to_the_bytes(
    settings: Callable[..., Settings], shared: Path, dataset: str
) -> None:
    root = run_steps(settings(datasets=dataset, archives=str(shared / "real")), dataset)
    # Of some only the metadata lie there: each of their rows leads to its reason.
    assert sum(holds(root, dataset)) >= 3
