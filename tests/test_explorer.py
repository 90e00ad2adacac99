"""Explorer: filters find what the tables hold, pages show it escaped, nothing else is served."""

import io
import json
import re
import shutil
import time
from collections import Counter
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import pytest
from explorer_world import ADDRESS, DATASETS, World, world
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient
from typer.testing import CliRunner
from worlds import edit

from pipeline import cli, readers
from pipeline import settings as configuration
from pipeline.explorer import corpus, sound
from pipeline.explorer.query import PAGE
from pipeline.explorer.ranges import ranged
from pipeline.explorer.reading import codes_of
from pipeline.lineage import Tables
from pipeline.lineage.evidence import archive_root
from pipeline.steps import marks, parts

HOSTILE = "<script>alert('metadata')</script>"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(tmp_path_factory.mktemp("explored") / "data")


@pytest.fixture(scope="module")
def client(made: World) -> TestClient:
    return made.client()


@pytest.fixture
def own(made: World, tmp_path: Path) -> World:
    """A copy to damage."""
    shutil.copytree(made.root, tmp_path / "data")
    return World(made.settings.model_copy(update={"data_root": tmp_path / "data"}))


def listed(client: TestClient, **filters: str) -> list[str]:
    """Ids on all pages of a list, in their order."""
    found: list[str] = []
    address = f"/?{urlencode(filters)}"
    while address:
        page = client.get(address)
        assert page.status_code == 200
        names = re.findall(r'<th scope="row"><a [^>]*>([^<]*)</a>', page.text)
        assert len(names) <= PAGE
        found += map(unescape, names)
        following = re.search(r'rel="next" href="([^"]*)"', page.text)
        address = unescape(following[1]) if following else ""
    return found


def one(made: World, dataset: str = "icbhi") -> str:
    return next(k for k in made.rows if k.startswith(f"{dataset}/"))


def path_of(name: str) -> str:
    return f"/recording/{quote(name)}"


def said(row: dict[str, Any]) -> dict[str, Any]:
    return json.loads(row["findings"])


def test_each_filter_finds_what_the_tables_hold(made: World, client: TestClient) -> None:
    rows = made.rows
    everything = listed(client)
    assert len(everything) == len(set(everything)) == len(rows) + len(made.refused)
    assert {n for n in everything if n in rows} == set(rows)

    def expect(wanted: Any, **filters: str) -> None:
        assert listed(client, **filters) == sorted(k for k, r in rows.items() if wanted(r))

    expect(lambda r: r["dataset"] == "hflung" and "pair_id" in r, dataset="hflung", kind="pair")
    expect(lambda r: r["dataset"] == "kauh", kind="probed only")
    for split in ("train", "val", "test"):
        expect(lambda r, s=split: r["split"] == s, split=split)
    expect(lambda r: said(r).get("device") == "Meditron", device="Meditron")
    expect(lambda r: "diagnosis=COPD" in codes_of(said(r)), finding="diagnosis=COPD")
    expect(  # the words that datasets share for codes of their own
        lambda r: {"diagnosis=COPD", "diagnosis=copd"} & set(codes_of(said(r))),
        diagnosis="chronic obstructive pulmonary disease",
    )
    expect(lambda r: "wheezes" in (r.get("full_text") or "").lower(), q="WHEEZES", kind="pair")
    expect(
        lambda r: all(w in (r.get("full_text") or "").lower() for w in ("left", "male")),
        q="male left", kind="pair", dataset="icbhi",
    )  # fmt: skip
    expect(lambda r: 5 <= r["duration_s"] <= 9, min_s="5", max_s="9")
    expect(lambda r: r["clipped_fraction"] > 0, quality="clipped")
    person = rows[one(made)]["person_id"]
    expect(lambda r: r["person_id"] == person, person=person)
    longest = listed(client, order="longest", kind="pair")
    lengths = [rows[n]["duration_s"] for n in longest]
    assert lengths == sorted(lengths, reverse=True)
    for reason, count in Counter(r["reason"] for r in made.refused).items():
        assert len(listed(client, reason=reason)) == count
    assert listed(client, q="(.*") == []  # words, no pattern


def test_each_choice_tells_what_it_would_give(made: World, client: TestClient) -> None:
    page = client.get("/?dataset=icbhi&kind=pair").text
    for name in ("split", "device", "dataset", "diagnosis"):
        options = page[page.index(f'<select name="{name}">') :].split("</select>")[0]
        counts = re.findall(r'value="([^"]+)"[^>]*>[^(]*\(([\d,]+)\)', options)
        assert counts
        for value, count in counts:
            filters = {"dataset": "icbhi", "kind": "pair"} | {name: unescape(value)}
            assert len(listed(client, **filters)) == int(count.replace(",", ""))
        if name == "dataset":  # the other one can still be chosen
            assert {value for value, _ in counts} == {"icbhi", "hflung"}


def test_every_recording_and_refused_file_has_a_page(made: World, client: TestClient) -> None:
    for name in listed(client):
        page = client.get(path_of(name))
        assert page.status_code == 200, name
        chain = client.get(f"/chain/{quote(name)}")
        assert chain.status_code == 200 and "recorded" in chain.text
        if name not in made.rows:
            assert "banner bad" in page.text
            continue
        row = made.rows[name]
        shown = unescape(re.sub(r"<[^>]+>", "", page.text))
        for sentence in json.loads(row.get("full_sentences") or "[]"):
            assert sentence["text"] in shown
        assert row["person_id"] in shown and row["member"] in shown
    for dataset in DATASETS:
        sheet = client.get(f"/dataset/{dataset}").text
        number = sum(r["dataset"] == dataset for r in made.rows.values())
        assert f"{number} recordings</a>" in sheet


def test_a_name_leads_where_the_trace_finds_it(made: World, client: TestClient) -> None:
    row = made.rows[one(made)]

    def go(what: str) -> Any:
        return client.get(f"/go?what={quote(what)}")

    for what in (row["pair_id"], row["pair_id"][:10], row["recording_id"], row["member"]):
        assert go(what).headers["location"] == path_of(one(made))
    person = go(f"person:{row['person_id']}").headers["location"]
    assert person == f"/?{urlencode({'person': row['person_id']})}"
    several = go(f"template:{row['template_version']}").text
    of_it = [r for r in made.rows.values() if r.get("template_version") == row["template_version"]]
    assert f"{len(of_it)} recordings" in several and several.count("<li>") == min(200, len(of_it))
    refused = next(r for r in made.refused if r["dataset"] == "icbhi")
    assert go(refused["name"]).headers["location"] == path_of(f"icbhi/{refused['name']}")
    own_file = go("/etc/hostname")
    assert own_file.status_code == 400 and "sha256" not in own_file.text


def test_sounds_are_the_corpus_own_bytes_and_pictures_show_them(
    made: World, client: TestClient
) -> None:
    name = one(made)
    row = made.rows[name]
    own = parts.read_flac(made.root / "icbhi" / "parts", row["part"], row["offset"], row["size"])
    whole = client.get(f"/audio/{quote(name)}")
    assert whole.content == own and whole.headers["content-type"] == "audio/flac"
    piece = client.get(f"/audio/{quote(name)}", headers={"Range": "bytes=10-99"})
    assert piece.status_code == 206 and piece.content == own[10:100]
    assert client.get(f"/spectrogram/{quote(name)}").content.startswith(b"\x89PNG")


@given(st.binary(max_size=40), st.text("0123456789-=bytes ,", max_size=14))
def test_a_range_is_a_slice_or_refused(content: bytes, asked: str) -> None:
    answer = ranged(content, "audio/flac", asked, {})
    if answer.status_code == 206:
        place = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer.headers["content-range"])
        assert place
        first, last, total = map(int, place.groups())
        assert answer.body == content[first : last + 1] and total == len(content)
        assert 0 <= first <= last < total
    elif answer.status_code == 416:
        assert answer.body == b""
    else:
        assert answer.status_code == 200 and answer.body == content


def test_a_tone_shows_at_its_time_and_height() -> None:
    from PIL import Image

    rate = 16_000
    wave = np.zeros(4 * rate)
    wave[2 * rate : 3 * rate] = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
    made = sound.Sound((wave * 32767).astype(np.int16), rate)
    picture = Image.open(io.BytesIO(sound.spectrogram(made)))
    level = np.asarray(picture.convert("L"), float)
    row, column = np.unravel_index(level.argmax(), level.shape)
    assert 0.5 < column / level.shape[1] < 0.75
    height = dict(sound.ticks())["1,000 Hz"]
    assert 1 - (row + 0.5) / level.shape[0] == pytest.approx(height, abs=2 / level.shape[0])
    points = [tuple(map(float, p.split(","))) for p in sound.outline(made).split()]
    loud = [x for x, y in points if y < sound.WAVE_HEIGHT * 0.4]
    assert min(loud) / sound.WIDTH > 0.49 and max(loud) / sound.WIDTH < 0.76


def test_annotated_events_are_those_that_findings_count(made: World) -> None:
    tables = Tables(made.root)
    seen = Counter[str]()
    for row in made.rows.values():
        archive = archive_root(tables, row["dataset"])
        found = readers.events(row["dataset"], archive, row["member"], json.loads(row["row"]))
        seen[row["dataset"]] += len(found)
        assert all(0 <= e.start_s < e.end_s for e in found)
        labels, counted = Counter(e.label for e in found), said(row)
        if row["dataset"] == "icbhi":
            assert len(found) == counted["cycles"]
            for word in ("crackle", "wheeze"):
                heard = sum(n for label, n in labels.items() if word in label)
                assert heard == counted[f"{word}_cycles"]
        elif row["dataset"] == "hflung":
            for label, name in (("inhalation", "inhalations"), ("stridor", "stridors")):
                assert labels[label] == counted[name]
    assert seen["icbhi"] and seen["hflung"] and not seen["kauh"]


def test_hostile_metadata_are_shown_and_do_nothing(own: World) -> None:
    name = one(own)
    text = {"full_text": HOSTILE, "full_sentences": json.dumps([{"text": HOSTILE, "findings": []}])}
    big = json.dumps({"note": HOSTILE, "big": "x" * 10_000_000})
    edit(own.root / "icbhi" / "recordings.parquet", name, lambda r: r.update(row=big))
    edit(own.root / "icbhi" / "reports.parquet", name, lambda r: r.update(text))
    edit(own.root / "pairs.parquet", name, lambda r: r.update(text))
    client = own.client()
    pages = [client.get(a) for a in ("/?q=alert", path_of(name), f"/chain/{quote(name)}")]
    for page in pages:
        assert page.status_code == 200
        assert HOSTILE not in page.text and "&lt;script&gt;" in page.text
        assert "script-src 'self'" in page.headers["content-security-policy"]
    assert len(pages[1].text) < 200_000 and "10,000,000 characters" in pages[1].text
    evil = client.get(f"/?q={quote(HOSTILE)}&finding={quote(HOSTILE)}")
    assert evil.status_code == 200 and HOSTILE not in evil.text


@pytest.mark.parametrize(
    "address",
    [
        "/static/../pyproject.toml", "/static/%2e%2e%2fstyle.css", "/static/list.html.j2",
        "/audio/../../etc/passwd", "/audio/icbhi/..%2f..%2fpairs.parquet", "/audio/%2Fetc%2Fpasswd",
        "/spectrogram/none", "/recording/icbhi/none", "/near/icbhi/none", "/chain/icbhi/none",
        "/dataset/none", "/dataset/..%2f..", "/go?what=none", "/nothing",
    ],
)  # fmt: skip
def test_nothing_else_is_served(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 404
    assert "root:" not in answer.text and "pyproject" not in answer.text


def test_a_table_cannot_lead_outside_the_data_root(own: World, tmp_path: Path) -> None:
    (tmp_path / "secret.tar").write_bytes(b"secret" * 1000)
    name = one(own)
    away = {"part": "../../../secret", "offset": 0, "size": 100}
    edit(own.root / "icbhi" / "recordings.parquet", name, lambda r: r.update(away))
    client = own.client()
    answer = client.get(f"/audio/{quote(name)}")
    assert answer.status_code == 404 and "secretsecret" not in answer.text
    assert "materialise `recordings`" in unescape(client.get(path_of(name)).text)


@pytest.mark.parametrize(
    "query", ["min_s=x", "max_s=-1", "max_s=nan", "quality=good", "order=random", "page=x",
              "page=-1", "q=" + "x" * 501]
)  # fmt: skip
def test_a_question_without_sense_is_answered_so(client: TestClient, query: str) -> None:
    answer = client.get(f"/?{query}")
    assert answer.status_code == 400 and query.partition("=")[0] in answer.text
    assert client.get("/?page=999999").status_code == 200  # the last one


def test_marks_are_kept_shared_and_taken_back(own: World) -> None:
    first, second, name = own.client(), own.client(), one(own)
    address, origin = f"/mark/{quote(name)}?dataset=icbhi", {"Origin": ADDRESS}
    note = {"doubtful": "yes", "note": f"hum {HOSTILE} é"}
    assert second.get("/?marked=yes").text.count('<th scope="row">') == 0
    answer = first.post(address, data=note, headers=origin)
    assert answer.status_code == 303
    assert answer.headers["location"] == f"{path_of(name)}?dataset=icbhi"
    assert listed(second, marked="yes") == [name]  # the other explorer knows at once
    page = second.get(path_of(name)).text
    assert "doubtful" in page and HOSTILE not in page and "hum &lt;script&gt;" in page
    kept, _ = marks.read(marks.place(own.settings))
    assert [m.note for m in kept.values()] == [note["note"]]
    second.post(address, data={"doubtful": "no"}, headers=origin)
    assert listed(first, marked="yes") == []


def test_only_its_own_pages_can_mark_and_only_pairs(own: World) -> None:
    client, name = own.client(), one(own)
    marked = {"doubtful": "yes"}
    for headers in ({}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
        assert client.post(f"/mark/{quote(name)}", data=marked, headers=headers).status_code == 403
    assert client.get(f"/mark/{quote(name)}").status_code == 405
    foreign = {"Host": "evil.example", "Origin": "http://evil.example"}
    assert client.get("/", headers=foreign).status_code == 400
    assert client.post(f"/mark/{quote(name)}", data=marked, headers=foreign).status_code == 400
    own_page = {"Origin": ADDRESS}
    only_probed = client.post(f"/mark/{quote(one(own, 'kauh'))}", data=marked, headers=own_page)
    assert only_probed.status_code == 400 and "is no pair" in only_probed.text
    long = client.post(f"/mark/{quote(name)}", data={"note": "x" * 30_000}, headers=own_page)
    assert long.status_code == 413
    assert not marks.place(own.settings).exists()


def test_new_tables_missing_and_altered_parts_show(
    own: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "_LOOK", 0.0)
    client, name = own.client(), one(own)
    assert name in listed(client, kind="pair")
    time.sleep(0.02)
    new = {"full_text": "Quite another text."}
    edit(own.root / "icbhi" / "reports.parquet", name, lambda r: r.update(new))
    assert listed(client, q="quite another") == [name]
    part = own.root / "icbhi" / "parts" / f"{own.rows[name]['part']}.tar"
    content = bytearray(part.read_bytes())
    at = own.rows[name]["offset"]
    content[at : at + 4] = b"????"
    part.write_bytes(content)
    assert "was altered" in client.get(path_of(name)).text
    assert client.get(f"/spectrogram/{quote(name)}").status_code == 404
    part.unlink()
    assert "is missing: materialise" in client.get(path_of(name)).text
    assert client.get(f"/audio/{quote(name)}").status_code == 404


def test_what_cannot_be_explored_is_told_at_the_start(
    own: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    import pyarrow.parquet as pq

    monkeypatch.setenv(f"{configuration.PREFIX}DATA_ROOT", str(tmp_path / "none"))
    nothing = CliRunner().invoke(cli.app, ["explore", "--port", "0"])
    assert nothing.exit_code == 2 and "holds no corpus" in nothing.output
    monkeypatch.setenv(f"{configuration.PREFIX}DATA_ROOT", str(own.root))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = CliRunner().invoke(cli.app, ["explore", "--port", port])
    assert refused.exit_code == 2 and f"port {port} cannot be used" in refused.output
    path = own.root / "icbhi" / "recordings.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["rms_dbfs"]), path)
    older = CliRunner().invoke(cli.app, ["explore", "--port", "0"])
    assert older.exit_code == 2 and "lacks rms_dbfs" in older.output


def test_neighbours_are_the_nearest_of_what_a_run_left(own: World) -> None:
    from acula_model.teachers import vectors

    names = sorted(own.rows)
    name = one(own)
    assert "materialise <code>train_alignment" in own.client().get(f"/near/{quote(name)}").text
    rng = np.random.default_rng(0)
    embedded = rng.normal(size=(len(names), 8)).astype(np.float32)
    at = names.index(name)
    nearest = names[(at + 3) % len(names)]
    embedded[(at + 3) % len(names)] = 3 * embedded[at] + 0.01
    folder = own.root / "recording_embeddings" / "run"
    folder.mkdir(parents=True)
    np.savez(folder / "all-1.npz", ids=np.array(names), vectors=embedded)
    paired = [r for r in own.rows.values() if r.get("full_hash")]
    made = {r["full_hash"]: rng.normal(size=5).astype(np.float32) for r in paired}
    twin = next(r for r in paired if r["full_hash"] != own.rows[name]["full_hash"])
    made[twin["full_hash"]] = -made[own.rows[name]["full_hash"]] + 0
    made[twin["full_hash"]] *= -1
    table = own.root / "report_embeddings" / "teacher" / "vectors.parquet"
    table.parent.mkdir(parents=True)
    vectors.write(table, made, {"model": "made up"})
    page = own.client().get(f"/near/{quote(name)}").text
    by_sound, by_report = page.split("By report")
    assert re.findall(r">([^<]+)</a> <small>([\d.]+)", by_sound)[0] == (nearest, "1.000")
    first = re.findall(r">([^<]+)</a> <small>([\d.]+)", by_report)[0]
    assert own.rows[first[0]]["full_hash"] == twin["full_hash"] and first[1] == "1.000"
    assert name not in page
