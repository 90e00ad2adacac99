"""A seed -> the visits of the CirCor look-alike: rows of its table and the hearts behind them.

Visits are laid out in a fixed pattern of (murmur, outcome), and ids are drawn so that the hash
by which persons are split follows that pattern: every side then holds both classes of both
tasks, however small the archive.
"""

from dataclasses import dataclass, replace

from pipeline.records import recording_id, unit_hash
from pipeline.samples import heart
from pipeline.samples.signal import Rng, rng

COLUMNS = (
    "Patient ID", "Recording locations:", "Age", "Sex", "Height", "Weight", "Pregnancy status",
    "Murmur", "Murmur locations", "Most audible location",
    "Systolic murmur timing", "Systolic murmur shape", "Systolic murmur grading",
    "Systolic murmur pitch", "Systolic murmur quality",
    "Diastolic murmur timing", "Diastolic murmur shape", "Diastolic murmur grading",
    "Diastolic murmur pitch", "Diastolic murmur quality",
    "Outcome", "Campaign", "Additional ID",
)  # fmt: skip
_LABELS = (
    ("Present", "Abnormal"), ("Absent", "Normal"), ("Present", "Abnormal"), ("Absent", "Normal"),
    ("Present", "Abnormal"), ("Absent", "Normal"), ("Unknown", ""), ("Present", ""),
    ("Absent", "Abnormal"), ("Absent", "Normal"),
)  # fmt: skip
FEWEST = 20  # visits; each trap has its place among the first twenty
_ERROR = 0.06  # share of visits whose sound does not fit the label
_FOUR = ["AV", "PV", "TV", "MV"]
# Visit -> its sites, where a trap needs them.
_SITES = {
    2: _FOUR, 3: _FOUR, 4: _FOUR, 5: ["AV", "PV", "MV", "Phc", "Phc"], 7: ["AV", "AV", *_FOUR[1:]],
    11: _FOUR, 13: _FOUR, 15: _FOUR,
}  # fmt: skip
# Visit -> the recording that came out wrong, and how.
_DAMAGE = {3: ("MV", "empty"), 11: ("PV", "truncated"), 13: ("TV", "silent"), 15: ("AV", "absent")}
_ELSEWHERE, _ABSENT = 12, "86901"  # the visit whose other visit is not in the archive
_AGES = {"Neonate": 0.04, "Infant": 0.5, "Child": 6.0, "Adolescent": 14.0, "nan": 27.0}


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One row of the table, and what the heart behind it really sounds like.

    Attributes:
        cells: The row by column.
        sites: Where it was recorded, in order; a site may come more than once.
        sound: The heart, with the murmur as it sounds at the sites in ``loud_at``.
        quiet: How much less noise than usual, in dB.
        damage: A site, and what is wrong with its file.
    """

    cells: dict[str, str]
    sites: list[str]
    sound: heart.Heart
    loud_at: frozenset[str]
    quiet: float
    damage: tuple[str, str] | None

    def stems(self) -> list[tuple[str, str]]:
        """(file stem, site); takes are numbered where a site was recorded more than once."""
        seen: list[tuple[str, str]] = []
        for i, site in enumerate(self.sites):
            take = f"_{self.sites[: i + 1].count(site)}" if self.sites.count(site) > 1 else ""
            seen.append((f"{self.cells['Patient ID']}_{site}{take}", site))
        return seen

    def heart_at(self, site: str) -> heart.Heart:
        """The murmur is heard only at its sites."""
        return self.sound if site in self.loud_at else replace(self.sound, murmurs=())

    def damage_at(self, site: str) -> str | None:
        return self.damage[1] if self.damage and self.damage[0] == site else None


def draw(seed: int, n: int) -> list[Visit]:
    """``n`` visits by patient id; the first FEWEST hold every trap."""
    later = [*range(23, n - 2, 20), *range(32, n - 2, 20)]
    partners = {3: 5, 10: 11} | {k: k + 2 for k in later}
    first = {j: i for i, j in partners.items()}
    # A person's visits share a place on the axis of hashes, whichever id then names the person.
    ids = _ids(seed, [(first.get(i, i) + 0.5) / n for i in range(n)])
    visits: list[Visit] = []
    for i in range(n):
        other = ids[partners[i]] if i in partners else ids[first[i]] if i in first else "nan"
        if i == _ELSEWHERE:
            other = _ABSENT
        campaign = ("CC2014", "CC2015")[i in first or (i not in partners and i % 5 < 3)]
        visits.append(
            _visit(seed, i, first.get(i, i), ids[i], {"Campaign": campaign, "Additional ID": other})
        )
    return sorted(visits, key=lambda v: int(v.cells["Patient ID"]))


def _ids(seed: int, places: list[float]) -> list[str]:
    """Free patient ids, mostly of five digits, whose hashes lie nearest to the places."""
    r = rng(seed, "circor", "ids")
    pools = [
        # The key is the one by which persons without an official split are split.
        {str(p): unit_hash(f"split:{recording_id('circor', str(p))}") for p in candidates}
        for candidates in (r.integers(51000, 86000, 30 * len(places)), r.integers(2500, 9999, 500))
    ]
    found: list[str] = []
    for i, place in enumerate(places):
        pool = pools[i == 6]
        best = min(pool, key=lambda p: abs(pool[p] - place))
        del pool[best]
        found.append(best)
    return found


def _visit(seed: int, i: int, person: int, patient: str, links: dict[str, str]) -> Visit:
    murmur, outcome = _LABELS[i % len(_LABELS)]
    odd = i // len(_LABELS) % 2
    outcome = outcome or ("Abnormal", "Normal")[odd ^ (murmur == "Present")]
    who, r = rng(seed, "circor", "person", person), rng(seed, "circor", "visit", i)
    pregnant = i % 20 in (1, 8)
    ages = ["Neonate", "Infant", "Child", "Adolescent"]
    age = str(who.choice(ages, p=[0.03, 0.15, 0.72, 0.10]))
    sex = str(who.choice(["Female", "Male"]))
    if pregnant:
        age, sex = "nan", "Female"
    elif i == 9:
        age, sex = "nan", "Male"
    years = _AGES[age] * who.uniform(0.6, 1.6) if pregnant or age != "nan" else 6.0
    sites = _SITES.get(i) or _some_sites(r)
    cells = dict.fromkeys(COLUMNS, "nan") | links | {
        "Patient ID": patient,
        "Recording locations:": "+".join(sites),
        "Age": age,
        "Sex": sex,
        "Height": "nan" if r.random() < 0.12 else f"{_height(years) * r.uniform(0.94, 1.06):.1f}",
        "Weight": "nan" if r.random() < 0.11 else f"{_weight(years) * r.uniform(0.85, 1.2):.1f}",
        "Pregnancy status": str(pregnant),
        "Murmur": murmur,
        "Outcome": outcome,
    }  # fmt: skip
    described = _described(r, i, innocent=outcome == "Normal")
    heard = _heard_at(r, i, sites)
    if murmur == "Present":
        cells |= described
        cells["Murmur locations"] = "+".join(heard)
        cells["Most audible location"] = str(r.choice(heard))
    sounds = {"Present": True, "Absent": False, "Unknown": i % 4 == 2}[murmur]
    sounds ^= murmur != "Unknown" and r.random() < _ERROR
    strange = (murmur == "Absent" and outcome == "Abnormal") ^ (r.random() < _ERROR / 2)
    sound = str(r.choice(["third sound", "click", "wide split"], p=[0.45, 0.4, 0.15]))
    extra = sound if strange else None
    pace, tone = heart.resting_heart(who, years)
    return Visit(
        cells=cells,
        sites=sites,
        sound=heart.Heart(
            beats_per_minute=pace,
            tone=tone,
            split=r.uniform(0.06, 0.075) if extra == "wide split" else r.uniform(0.005, 0.03),
            extra=None if extra == "wide split" else extra,
            murmurs=_murmurs(described) if sounds else (),
        ),
        loud_at=frozenset(heard),
        quiet=-14.0 if murmur == "Unknown" else 0.0,
        damage=_DAMAGE.get(i),
    )


def _some_sites(r: Rng) -> list[str]:
    lists = [_FOUR, ["AV", "MV"], ["AV", "PV", "MV"], ["AV", "PV", "TV"], ["PV", "MV"], ["MV"]]
    return lists[int(r.choice(len(lists), p=[0.42, 0.16, 0.12, 0.1, 0.12, 0.08]))]


def _heard_at(r: Rng, i: int, sites: list[str]) -> list[str]:
    """Sites with a murmur, in alphabetical order as in the table; visit 4 has it at two of four."""
    distinct = sorted(set(sites))
    if i == 4:
        return distinct[:2]
    if r.random() < 0.65:
        return distinct
    return sorted(str(s) for s in r.permutation(distinct)[: r.integers(1, len(distinct) + 1)])


def _described(r: Rng, i: int, innocent: bool) -> dict[str, str]:
    """The murmur in the table's words. Visit 0 has a diastolic one only, visit 2 has both."""
    timing = str(r.choice(["Holosystolic", "Early-systolic", "Mid-systolic"], p=[0.57, 0.28, 0.15]))
    if innocent:
        timing = str(r.choice(["Early-systolic", "Mid-systolic"]))
    elif i % 30 == 4:
        timing = "Late-systolic"
    shape = {"Holosystolic": "Plateau", "Early-systolic": "Decrescendo", "Mid-systolic": "Diamond",
             "Late-systolic": "Crescendo"}[timing]  # fmt: skip
    grade = "I/VI" if innocent else str(r.choice(["I/VI", "II/VI", "III/VI"], p=[0.35, 0.3, 0.35]))
    pitch = "Low" if innocent else str(r.choice(["Low", "Medium", "High"], p=[0.35, 0.33, 0.32]))
    quality = str(r.choice(["Blowing", "Musical"] if innocent else ["Harsh", "Blowing"]))
    systolic = {
        "timing": timing,
        "shape": shape,
        "grading": grade,
        "pitch": pitch,
        "quality": quality,
    }
    diastolic = {"timing": "Early-diastolic", "shape": "Decrescendo", "grading": "II/IV",
                 "pitch": "Medium", "quality": "Blowing"}  # fmt: skip
    words: dict[str, str] = {}
    if i != 0:
        words |= {f"Systolic murmur {k}": v for k, v in systolic.items()}
    if i in (0, 2):
        words |= {f"Diastolic murmur {k}": v for k, v in diastolic.items()}
    return words


def _murmurs(words: dict[str, str]) -> tuple[heart.Murmur, ...]:
    return tuple(
        heart.Murmur(
            timing=words[f"{phase} murmur timing"],
            shape=words[f"{phase} murmur shape"],
            pitch=words[f"{phase} murmur pitch"],
            quality=words[f"{phase} murmur quality"],
            level_db=heart.GRADE_DB[words[f"{phase} murmur grading"].split("/")[0]],
        )
        for phase in ("Systolic", "Diastolic")
        if f"{phase} murmur timing" in words
    )


def _height(years: float) -> float:
    return min(50 + 25 * min(years, 1) + 6.5 * max(years - 1, 0), 164)


def _weight(years: float) -> float:
    return min(3.5 + 6 * min(years, 1) + 2.9 * max(years - 1, 0), 62)
