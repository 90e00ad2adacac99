"""Manifests: mistakes stop by file and key, and each dataset has all that a dataset consists of."""

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import manifest_values

from pipeline import readers, samples
from pipeline.manifest import FOLDER, Manifest, load, load_all
from pipeline.steps import reports

CODE = {"kind": "code", "label": "m", "words": {"P": "one", "N": "none"}}
TASK = {"title": "m", "label": "murmur", "positive": ["P"], "negative": ["N"]}
GRADES = {
    "kind": "multiclass", "positive": [], "negative": [],
    "classes": {"a": ["P"], "b": ["N"], "c": ["U"]},
}  # fmt: skip
AMOUNT = {"kind": "regression", "negative": []}
OFFICIAL = {"as_published": "official"}
LISTS = {"names": "n.npy", "sides": "s.npy", "labels": "l.npy"}
PUBLISHED = {"base": "https://example.org/", "licence": "MIT", "files": {}}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def run(name: str = "heart", **changes: Any) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(manifest_values(**changes)))
        return path

    return run


def test_a_valid_manifest_is_read(write: Write) -> None:
    assert load(write()).findings["murmur"].words == {"P": "one", "N": "none"}


def finding(**changes: Any) -> dict[str, Any]:
    return {"findings": {"murmur": CODE | changes}}


def number(**changes: Any) -> dict[str, Any]:
    age = {"kind": "number", "label": "age", "unit": "years"}
    return {"findings": {"murmur": CODE, "age": age | changes}}


def task(**changes: Any) -> dict[str, Any]:
    return {"tasks": {"m": TASK | changes}}


FLAG = {"findings": {"murmur": {"kind": "flag", "label": "m"}}}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"colour": "red"}, "colour\n.*not permitted"),
        ({"licence": {"name": "CC0"}}, "licence.source\n.*required"),
        ({"files": [{"name": "a", "urls": ["u"], "sha256": "12"}]}, "files.0.sha256"),
        (finding(wrods={}), "findings.murmur.wrods\n.*not permitted"),
        (finding(words={}), "findings.murmur\n.*needs words"),
        (finding(absent=["X"]), r"absent/unknown codes without a word: \['X'\]"),
        (number(words={"1": "one"}), "findings.age\n.*do not apply to kind number"),
        (number(unit=None), "findings.age\n.*needs a unit"),
        (number(bands=[18, 1]), "findings.age\n.*bands .*rise"),
        (task(label="murmr"), "task m: no finding 'murmr'; known: murmur"),
        (task(masks=["grade"]), "task m: no finding 'grade'"),
        (task(positive=["X"]), r"task m: no word for label codes \['X'\]"),
        (task(positive=["P", "N"]), r"tasks.m\n.*\['N'\] .*two classes"),
        (task(where={"murmur": ["X"]}), r"task m: no word for murmur \['X'\]"),
        (task(metric="accuracy"), "tasks.m.metric"),
        (FLAG | task(), r"task m: .*flag.*true or false"),
        (task(negative=[]), r"tasks.m\n.*binary task has negative and positive; look at negative"),
        (task(classes={"a": ["P"]}), r"tasks.m\n.*look at classes"),
        (task(**GRADES | {"classes": {"a": ["P"], "b": ["N"]}}), r"tasks.m\n.*three classes or"),
        (task(**GRADES), r"task m: no word for label codes \['U'\]"),
        (task(**AMOUNT | {"positive": []}), r"task m: a regression label is a number; murmur"),
        (task(**AMOUNT), r"tasks.m\n.*regression task has no classes"),
        (number() | task(label="age"), r"task m: a binary label is a code or flag; age"),
        (task(scheme="leave_one_person_out", variants=OFFICIAL), r"tasks.m\n.*no split of a task"),
        (task(variants={"as_published": "all"}), r"tasks.m\n.*no split of a task of scheme hold"),
        (task(variants={"theirs": "official"}), r"tasks.m.variants.theirs"),
        (task(variants={"as_published": LISTS}), r"task m: no published list n.npy, s.npy, l.npy"),
        (
            task(variants={"as_published": LISTS | {"read_labels": {"COPD": "ill"}}}),
            r"tasks.m\n.*as_published: no class ill",
        ),
        (task(published={"epoch": 3}), r"tasks.m.published.epoch"),
        ({"published": PUBLISHED | {"name": "[0-9]+"}}, r"published.name\n.*stands in a group"),
        ({"id": "Heart"}, "id\n.*pattern"),
        ({"files": []}, "name the files to fetch"),
        ({"files": [], "access": "request"}, "needs instructions"),
        ({"files": [{"name": "../a", "urls": ["u"]}]}, "files.0.name"),
        ({"files": [{"name": "a", "urls": ["u"]}] * 2}, "files named twice: a"),
        ({"editions": {"v2": {"about": "x", "members_of": ["*.npy"]}}}, "no published list"),
        ({"unpack": [{"from": "a.zip", "format": "rar"}]}, "unpack.0.format"),
    ],
)
def test_a_mistake_is_named_by_file_and_key(
    write: Write, changes: dict[str, Any], error: str
) -> None:
    with pytest.raises(ValueError, match=rf"(?s)^heart\.yaml: .*{error}"):
        load(write(**changes))


def test_an_edition_replaces_what_it_names(write: Write) -> None:
    other = {"name": "b.zip", "urls": ["https://example.org/b.zip"]}
    edition = {"v2": {"about": "the second", "version": "2", "files": [other]}}
    manifest = load(write(editions=edition))
    assert [f.name for f in manifest.edition("v2").files] == ["b.zip"]
    assert manifest.edition("v2").version == "2" and manifest.edition(None) is manifest
    with pytest.raises(ValueError, match="heart has no edition 'v3'; valid: v2"):
        manifest.edition("v3")


def test_flags_make_labels(write: Write) -> None:
    path = write(**(FLAG | task(positive=[True], negative=[False])))
    assert load(path).tasks["m"].positive == [True]


def test_the_id_is_the_name_of_the_file(write: Write) -> None:
    with pytest.raises(ValueError, match=r"lung\.yaml: id is 'heart'; it must equal"):
        load(write("lung"))


def test_what_is_no_yaml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "heart.yaml"
    for text in ("a: [", ""):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"^heart\.yaml: "):
            load(path)


def modules(package: Any, offers: str) -> set[str]:
    """Modules of a package that offer a function, found by name as the pipeline does."""
    names = {p.stem for p in Path(package.__file__).parent.glob("[!_]*.py")}
    found = {n: import_module(f"{package.__name__}.{n}") for n in names}
    return {n for n, module in found.items() if callable(getattr(module, offers, None))}


def test_each_dataset_has_a_manifest_a_reader_a_template_and_a_sample() -> None:
    """One id everywhere: adding a dataset is adding four files, and forgetting one is named.

    A dataset that is only probed has no reports, so no template.
    """
    manifests = {p.stem for p in FOLDER.glob("*.yaml")}
    aligned = {m.id for m in load_all().values() if m.use == "alignment"}
    assert {
        "reader": modules(readers, "read"),
        "template": {p.stem for p in reports.FOLDER.glob("[!_]*.j2")},
        "sample": modules(samples, "write"),
    } == {"reader": manifests, "template": aligned, "sample": manifests}
    assert load_all().keys() == manifests and len(aligned) == 7


@pytest.mark.parametrize("dataset", sorted(p.stem for p in FOLDER.glob("*.yaml")))
def test_readers_and_samples_have_one_shape(dataset: str) -> None:
    assert list(inspect.signature(readers.reader(dataset).read).parameters) == ["archive"]
    write = inspect.signature(samples.sample(dataset).write).parameters
    assert list(write) == ["root", "seed", "scale"] and write["scale"].default == 1.0
    manifest: Manifest = load_all()[dataset]
    assert manifest.attribution and manifest.licence.source and manifest.contents
    assert manifest.tasks
