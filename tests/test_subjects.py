"""Who is who and who is where: invariants over random worlds, and the cases that are known."""

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from conftest import manifest_values
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_persons import people_of, plainly, tasks_of

from pipeline.manifest import Manifest
from pipeline.steps import persons

Row = dict[str, Any]
FOLDS = ("train", "val", "test")
VARIANTS = ("subject_clean", "as_published")


def manifest(dataset: str) -> Manifest:
    words = {"P": "one", "N": "none", "U": "unclear"}
    task = {"title": "m", "label": "murmur", "positive": ["P"], "negative": ["N"]}
    return Manifest.model_validate(
        manifest_values(
            id=dataset,
            findings={"murmur": {"kind": "code", "label": "m", "words": words}},
            tasks={"ours": task, "theirs": task | {"variants": {"as_published": "official"}}},
        )
    )


MANIFESTS = {name: manifest(name) for name in ("a", "b", "c")}


def recording(dataset: str, number: int, **known: Any) -> Row:
    row: Row = {
        "recording_id": f"{dataset}/r{number}", "dataset": dataset, "native_id": f"r{number}",
        "case_id": f"visit{number // 2}", "person": None, "linked": [], "proxy": None,
        "official_split": None, "audio_sha256": f"sound {dataset} {number}", "findings": "{}",
    }  # fmt: skip
    return row | known


@st.composite
def worlds(draw: st.DrawFn, datasets: str = "abc", sounds: str = "") -> list[Row]:
    """Up to 14 recordings; few ids, dates and sounds, so that most worlds have links."""
    people = st.sampled_from([None, None, "p1", "p2", "p3", "p4"])
    # Some datasets have ids, some have none, some publish no split: so it is outside.
    has_ids = {d: draw(st.booleans()) for d in datasets}
    publishes = {d: draw(st.sampled_from([(), ("train", "test"), FOLDS])) for d in datasets}
    rows: list[Row] = []
    for number in range(draw(st.integers(1, 14))):
        dataset = draw(st.sampled_from(datasets))
        label = draw(st.sampled_from(["P", "N", "U", None]))
        rows.append(
            recording(
                dataset, number,
                person=draw(people) if has_ids[dataset] else None,
                linked=draw(st.lists(st.sampled_from(["p1", "p4", "gone"]), max_size=2))
                if has_ids[dataset] else [],
                proxy=draw(st.sampled_from([None, "monday", "tuesday"])),
                official_split=draw(st.sampled_from([None, *publishes[dataset]])),
                audio_sha256=f"sound{sounds}{draw(st.integers(0, 20))}",
                findings=json.dumps({"murmur": label} if label else {}),
            )
        )  # fmt: skip
    return rows


def tokens(row: Row, with_ids: set[str]) -> set[tuple[str, ...]]:
    """What a recording is known by; two recordings with a common token are of one person."""
    dataset = row["dataset"]
    found: set[tuple[str, ...]] = {
        ("sound", row["audio_sha256"]),
        ("recording", row["recording_id"]),
    }
    found |= {("id", dataset, other) for other in row["linked"]}
    if row["person"]:
        found.add(("id", dataset, row["person"]))
    elif row["proxy"] and dataset not in with_ids:
        found.add(("proxy", dataset, row["proxy"]))
    return found


def components(rows: Iterable[Row]) -> set[frozenset[str]]:
    """The same grouping by repeated merging, as slow and as plain as can be."""
    rows = list(rows)
    with_ids = {r["dataset"] for r in rows if r["person"]}
    merged: list[set[tuple[str, ...]]] = []
    for row in rows:
        mine = tokens(row, with_ids)
        while touching := [m for m in merged if m & mine]:
            merged.remove(touching[0])
            mine |= touching[0]
        merged.append(mine)
    return {frozenset(t[1] for t in m if t[0] == "recording") for m in merged}


def by_person(found: Iterable[Row]) -> dict[str, set[str]]:
    people: dict[str, set[str]] = defaultdict(set)
    for row in found:
        people[row["person_id"]].add(row["recording_id"])
    return people


@settings(max_examples=300, deadline=None)
@given(rows=worlds(), order=st.randoms(use_true_random=False))
def test_invariants(rows: list[Row], order: Any) -> None:
    found = people_of(rows)
    assert found == plainly(rows)
    assert sorted(s["recording_id"] for s in found) == sorted(r["recording_id"] for r in rows)
    assert {frozenset(own) for own in by_person(found).values()} == components(rows)
    split = {s["recording_id"]: s["split"] for s in found}
    person = {s["recording_id"]: s["person_id"] for s in found}
    assert all(len({split[r] for r in own}) == 1 for own in by_person(found).values())

    with_ids = {r["dataset"] for r in rows if r["person"]}
    official: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if not row["person"] and row["dataset"] in with_ids:
            assert split[row["recording_id"]] == "train"
        if row["official_split"]:
            official[person[row["recording_id"]]].add(row["official_split"])
    for who, sides in official.items():
        own = {split[r] for r in by_person(found)[who]}
        if len(sides) > 1:
            assert own == {"train"}
        if sides == {"train"}:
            assert own <= {"train", "val"}  # never into test
        if len(sides) == 1 and own != {"train"}:
            assert own == sides or (sides == {"train"} and own == {"val"})

    tasks = tasks_of(rows, MANIFESTS).rows
    sides_of: dict[tuple[str, str], set[str]] = defaultdict(set)
    labelled = {r["recording_id"]: json.loads(r["findings"]).get("murmur") for r in rows}
    published = {r["recording_id"]: r["official_split"] for r in rows}
    for row in tasks:
        assert row["label"] == (labelled[row["recording_id"]] == "P")
        if row["variant"] == "subject_clean":
            sides_of[row["task"], row["person_id"]].add(row["fold"])
        else:
            assert row["task"].endswith("/theirs")
            assert row["fold"] == published[row["recording_id"]]
    assert all(len(sides) == 1 for sides in sides_of.values())
    clean = [r["recording_id"] for r in tasks if r["variant"] == "subject_clean"]
    usable = [r for r, label in labelled.items() if label in ("P", "N")]
    assert sorted(clean) == sorted(usable * 2)  # two tasks each
    copied = {r["recording_id"] for r in tasks if r["variant"] == "as_published"}
    assert copied == {r for r in usable if published[r]}

    shuffled = list(rows)
    order.shuffle(shuffled)
    assert people_of(shuffled) == found
    assert tasks_of(shuffled, MANIFESTS).rows == tasks


@settings(max_examples=100, deadline=None)
@given(rows=worlds("ab"), more=worlds("c", sounds=" of c "))
def test_another_dataset_moves_nobody_unless_sound_is_shared(
    rows: list[Row], more: list[Row]
) -> None:
    alone = people_of(rows)
    together = [s for s in people_of(rows + more) if s["dataset"] != "c"]
    assert together == alone


def test_a_new_recording_of_a_person_moves_nobody() -> None:
    rows = [recording("a", n, person=str(n)) for n in range(50)]
    more = [recording("a", 100 + n, person=str(n)) for n in range(50)]
    new = {s["recording_id"]: s["split"] for s in people_of(rows + more)}
    assert {s["recording_id"]: s["split"] for s in people_of(rows)}.items() <= new.items()


def split_of(*rows: Row) -> dict[str, tuple[str, str]]:
    """Recording -> (person, split)."""
    found = people_of(rows)
    return {s["recording_id"]: (s["person_id"], s["split"]) for s in found}


def test_a_person_on_two_official_sides_goes_to_train_and_is_still_held_out() -> None:
    """ICBHI's patients 156 and 218: the published list puts them on both sides."""
    murmur = json.dumps({"murmur": "P"})
    rows = [
        recording("a", n, person="156", official_split=side, findings=murmur)
        for n, side in enumerate(("train", "test", "test"))
    ]
    found = people_of(rows)
    assert {s["split"] for s in found} == {"train"}
    assert {s["split_rule"] for s in found} == {"official splits disagree (test, train): train"}
    theirs = [r for r in tasks_of(rows, MANIFESTS).rows if r["task"] == "a/theirs"]
    folds = {v: [r["fold"] for r in theirs if r["variant"] == v] for v in VARIANTS}
    assert folds == {"as_published": ["train", "test", "test"], "subject_clean": ["train"] * 3}


def test_two_visits_are_one_person_through_linked_ids() -> None:
    """CirCor's `Additional ID`, given on either side, or to a visit that is not in the archive."""
    people = split_of(
        recording("a", 1, person="40058", linked=["50052"]),
        recording("a", 3, person="50052"),
        recording("a", 5, person="60001", linked=["absent"]),
        recording("a", 7, person="60002", linked=["absent"]),
        recording("a", 9, person="70000"),
    )
    assert people["a/r1"] == people["a/r3"] and people["a/r5"] == people["a/r7"]
    assert len({person for person, _ in people.values()}) == 3


def test_ids_of_two_datasets_are_strangers() -> None:
    people = split_of(recording("a", 1, person="7"), recording("b", 1, person="7"))
    assert len({person for person, _ in people.values()}) == 2


def test_equal_sound_links_across_datasets_and_takes_the_stronger_side() -> None:
    people = split_of(
        recording("a", 1, person="1", official_split="test", audio_sha256="same"),
        recording("b", 1, person="9", official_split="train", audio_sha256="same"),
        recording("c", 1, audio_sha256="same"),
    )
    assert set(people.values()) == {("a/1", "train")}


def test_nobody_knows_whose_they_are_so_they_stay_in_train() -> None:
    """SPRSound 2024/25 has recordings without an id, some on its own test side."""
    rows = [recording("a", n, official_split="test", proxy="monday") for n in range(40)]
    found = people_of([*rows, recording("a", 99, person="1")])
    anonymous = [s for s in found if s["recording_id"] != "a/r99"]
    assert {s["split"] for s in anonymous} == {"train"}
    assert len({s["person_id"] for s in anonymous}) == 40  # a date links nothing where ids exist


def test_identity_says_how_strong_it_is() -> None:
    found = people_of(
        [
            recording("a", 1, person="1"), recording("b", 1, proxy="monday"),
            recording("b", 2, proxy="monday"), recording("c", 1),
            recording("c", 2, audio_sha256="same"), recording("c", 3, audio_sha256="same"),
        ]
    )  # fmt: skip
    known = {s["recording_id"]: (s["identity"], s["links"]) for s in found}
    assert known["a/r1"] == ("id", ["native id"])
    assert known["b/r1"] == known["b/r2"] == ("proxy", ["proxy"])
    assert known["c/r1"] == ("none", [])
    assert known["c/r2"] == known["c/r3"] == ("none", ["equal audio"])


def test_shares_of_persons_are_as_stated() -> None:
    free = people_of([recording("a", n, person=str(n)) for n in range(4000)])
    share = {f: sum(s["split"] == f for s in free) / 4000 for f in FOLDS}
    assert abs(share["val"] - persons.VAL_SHARE) < 0.03
    assert abs(share["test"] - persons.TEST_SHARE) < 0.03
    rows = [recording("a", n, person=str(n), official_split="train") for n in range(4000)]
    cut = people_of(rows)
    assert abs(sum(s["split"] == "val" for s in cut) / 4000 - persons.VAL_SHARE) < 0.03
    assert not any(s["split"] == "test" for s in cut)
    kept = people_of([*rows, recording("a", 9999, person="x", official_split="val")])
    assert sum(s["split"] == "val" for s in kept) == 1  # this publisher has a validation side


def test_a_task_takes_only_its_codes_and_where_it_applies() -> None:
    words = {"P": "one", "N": "none", "U": "unclear"}
    where = Manifest.model_validate(
        manifest_values(
            id="a",
            findings={
                "murmur": {"kind": "code", "label": "m", "words": words},
                "site": {"kind": "code", "label": "s", "words": {"AV": "aortic", "MV": "mitral"}},
                "cough": {"kind": "flag", "label": "c"},
            },
            tasks={
                "m": {"title": "m", "label": "murmur", "positive": ["P"], "negative": ["N"],
                      "where": {"site": ["AV"]}},
                "c": {"title": "c", "label": "cough", "positive": [True], "negative": [False]},
            },
        )
    )  # fmt: skip
    said = [
        {"murmur": "P", "site": "AV", "cough": False}, {"murmur": "N", "site": "AV"},
        {"murmur": "U", "site": "AV"}, {"murmur": "P", "site": "MV", "cough": True},
        {"murmur": "P"}, {"site": "AV"},
    ]  # fmt: skip
    rows = [recording("a", n, person="1", findings=json.dumps(f)) for n, f in enumerate(said)]
    found = tasks_of(rows, {"a": where}).rows
    labels = [f"{r['task']} {r['recording_id']} {r['label']:g}" for r in found]
    assert labels == ["a/c a/r0 0", "a/c a/r3 1", "a/m a/r0 1", "a/m a/r1 0"]
