"""Shards: the format for others' readers, what travels in it, and what a change rewrites."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from conftest import TinyIcbhi, tone

from acula_model import shards as pair_format
from acula_model.shards import Pair
from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.steps import layout, parts, shards, store

Materialise = Callable[..., dict[str, store.Outcome]]


def pair(number: int, **more: Any) -> Pair:
    meta = {"pair_id": f"{number:016x}", "dataset": "icbhi", "split": "train", "align": True}
    return Pair(flac=bytes([number]) * (600 + number), meta=meta | {"text": "Grüße"} | more)


def test_round_trip_places_and_descriptions(tmp_path: Path) -> None:
    path, pairs = tmp_path / "a.tar", [pair(n) for n in range(5)]
    pair_format.write(path, iter(pairs))
    assert list(pair_format.read(path)) == pairs
    assert pair_format.describe(path) == [p.meta for p in pairs]
    raw = path.read_bytes()
    for key, (offset, size) in pair_format.places(path).items():
        assert raw[offset : offset + size] == pairs[int(key, 16)].flac


@pytest.mark.parametrize("count", [0, 1, 14])
def test_the_bytes_are_those_of_tarfile(tmp_path: Path, count: int) -> None:
    """An independent writer, for every length of the end, and names of every length and kind."""
    names = ["", "a" * 95, "ü", "a" * 99 + "/b", *(f"{n:016x}" for n in range(10))][:count]
    pairs = [
        Pair(flac=bytes(510 + n), meta={"pair_id": name, "text": "é" * 40 * n, "b": 1, "a": None})
        for n, name in enumerate(names)
    ]
    places = pair_format.write(tmp_path / "ours.tar", pairs)
    with tarfile.open(tmp_path / "theirs.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for each in pairs:
            meta = json.dumps(each.meta, ensure_ascii=False, sort_keys=True).encode()
            for suffix, content in (("flac", each.flac), ("json", meta)):
                info = tarfile.TarInfo(f"{each.pair_id}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    assert (tmp_path / "ours.tar").read_bytes() == (tmp_path / "theirs.tar").read_bytes()
    assert list(places.items()) == list(pair_format.places(tmp_path / "ours.tar").items())


def test_equal_pairs_give_equal_bytes(tmp_path: Path) -> None:
    one, other = tmp_path / "one.tar", tmp_path / "other.tar"
    pair_format.write(one, [pair(1, a=1, b=2)])
    pair_format.write(other, [pair(1, b=2, a=1)])
    assert one.read_bytes() == other.read_bytes()


def test_a_key_with_a_dot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'85343\.AV' has a dot"):
        pair_format.write(tmp_path / "a.tar", [pair(1, pair_id="85343.AV")])


def test_half_a_sample_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    pair_format.write(path, [pair(1), pair(2)])
    with tarfile.open(path, "a") as tar:
        tar.addfile(tarfile.TarInfo("lonely.flac"))
    with pytest.raises(ValueError, match=r"a\.tar: incomplete samples \['lonely'\]"):
        list(pair_format.read(path))


def test_no_shards_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="materialise"):
        pair_format.shards(tmp_path)


@pytest.fixture
def corpus(tiny_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> layout.Corpus:
    monkeypatch.setattr(shards, "PAIRS_PER_SHARD", 4)
    return layout.Corpus(tiny_settings.data_root)


def tars(corpus: layout.Corpus) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in pair_format.shards(corpus.shards)}


def ids_by_bucket(corpus: layout.Corpus) -> dict[str, str]:
    """Pair id -> shard without the hash of its content."""
    index = store.read_table(corpus.shard_index).to_pylist()
    return {r["pair_id"]: r["shard"].rpartition("-")[0] for r in index}


def test_each_pair_can_be_traced_from_its_tar_alone(
    materialise: Materialise, corpus: layout.Corpus, tiny_archive: TinyIcbhi
) -> None:
    made = materialise()
    index = {r["pair_id"]: r for r in store.read_table(corpus.shard_index).to_pylist()}
    assert len(index) == made["shards"].facts["pairs"] == 16
    for path in pair_format.shards(corpus.shards):
        for found in pair_format.read(path):
            meta, place = found.meta, index[found.pair_id]
            assert path == corpus.shards / place["shard"] and path.parent.name == meta["split"]
            start = place["shard_offset"]
            assert path.read_bytes()[start : start + place["shard_size"]] == found.flac
            raw = tiny_archive.root / meta["member"]
            facts = parts.audio.normalise(raw)
            assert (meta["raw_sha256"], meta["audio_sha256"]) == (
                facts.raw_sha256, facts.audio_sha256,
            )  # fmt: skip
            assert found.flac == facts.flac
            assert meta["archive"]["version"] == made["archive"].version
            assert meta["archive"]["source"] == "folder" and meta["archive"]["urls"]
            assert "Rocha" in meta["attribution"] and meta["licence"] and meta["dataset_version"]
            for regime in ("full", "strict"):
                said = [s["text"] for s in meta[f"{regime}_sentences"]]
                assert " ".join(said) == meta[f"{regime}_text"]
                assert all(s["findings"] for s in meta[f"{regime}_sentences"])
            assert {"identity", "split_rule", "align", "template_version"} <= meta.keys()


def test_the_index_is_the_same_from_what_was_written_and_from_what_is_found(
    materialise: Materialise, corpus: layout.Corpus
) -> None:
    materialise()
    index = corpus.shard_index.read_bytes()
    next(corpus.shards.rglob("*.tar")).unlink()
    corpus.stamp("shards").unlink()
    assert materialise()["shards"].facts["shards_written"] == 1
    assert corpus.shard_index.read_bytes() == index
    corpus.shard_index.unlink()
    assert materialise()["shards"].facts["shards_written"] == 0
    assert corpus.shard_index.read_bytes() == index


def test_plain_webdataset_reads_them(materialise: Materialise, corpus: layout.Corpus) -> None:
    import webdataset

    materialise()
    paths = [str(p) for p in pair_format.shards(corpus.shards)]
    seen = list(webdataset.WebDataset(paths, shardshuffle=False).decode())
    assert sorted(s["__key__"] for s in seen) == sorted(ids_by_bucket(corpus))
    for sample in seen:
        assert sample["json"]["pair_id"] == sample["__key__"]
        samples, rate = soundfile.read(io.BytesIO(sample["flac"]))
        assert (rate, samples.ndim) == (16_000, 1)


def test_hugging_face_datasets_reads_them(
    materialise: Materialise, corpus: layout.Corpus, tmp_path: Path
) -> None:
    """With the sound as bytes: its own audio type needs torchcodec to be installed."""
    import datasets
    import pyarrow as pa

    materialise()
    tars = pair_format.shards(corpus.shards)
    ours = {pair.pair_id: pair for path in tars for pair in pair_format.read(path)}
    example = {"__key__": "", "__url__": "", "flac": b"", "json": next(iter(ours.values())).meta}
    found: Any = datasets.load_dataset(
        "webdataset",
        data_files=[str(path) for path in tars],
        features=datasets.Features.from_arrow_schema(pa.Table.from_pylist([example]).schema),
        cache_dir=str(tmp_path / "cache"),
        split="train",
    )
    assert {r["__key__"]: (r["flac"], r["json"]) for r in found} == {
        key: (pair.flac, pair.meta) for key, pair in ours.items()
    }


def test_a_changed_report_rewrites_only_its_shard(
    materialise: Materialise, corpus: layout.Corpus, tiny_archive: TinyIcbhi, icbhi: Manifest
) -> None:
    """Two recordings at a place of their own, whose word then changes."""
    stems = [f"30{n}_1b1_Al_sc_Meditron" for n in (1, 2)]
    for n, stem in enumerate(stems):
        tiny_archive.add(stem, tone(60 + n), "test", "Asthma")
    tiny_archive.save()
    made = materialise()["shards"]
    assert made.facts["shards"] == made.facts["shards_written"] > 4
    before = tars(corpus)
    assert materialise()["shards"].skipped

    values = icbhi.model_dump()
    values["findings"]["location"]["words"]["Al"] = "left front of the chest"
    after = materialise(manifest=Manifest.model_validate(values))["shards"]
    new = {name for name in tars(corpus) if name not in before}
    holding = {
        path.name
        for path in pair_format.shards(corpus.shards)
        for pair in pair_format.read(path)
        if "left front of the chest" in pair.meta["full_text"]
    }
    assert new == holding and after.facts["shards_written"] == len(holding) in (1, 2)
    assert len(tars(corpus)) == len(before)


def test_a_new_pair_moves_no_other(
    materialise: Materialise, corpus: layout.Corpus, tiny_archive: TinyIcbhi
) -> None:
    materialise()
    before = ids_by_bucket(corpus)
    tiny_archive.add("109_1b1_Tc_sc_Meditron", tone(50), "test", "Asthma")
    tiny_archive.save()
    materialise()
    after = ids_by_bucket(corpus)
    assert len(after) == len(before) + 1
    assert {k: v for k, v in after.items() if k in before} == before
