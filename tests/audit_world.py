"""Made-up findings of all seven alignment datasets, as coherent as their readers make them."""

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pipeline.audit.summary import Auditor, Row, Summary
from pipeline.manifest import Manifest, load_all
from pipeline.steps import reports

Values = dict[str, Any]
Draw = random.Random
_SYSTOLIC = ("timing", "shape", "grade", "pitch", "quality")


def _codes(draw: Draw, dataset: str, *names: str, p: float = 0.9) -> Values:
    specs = load_all()[dataset].findings
    return {n: draw.choice(list(specs[n].words)) for n in names if draw.random() < p}


def circor(draw: Draw) -> Values:
    sites = draw.sample(["AV", "PV", "TV", "MV"], draw.randint(1, 4))
    here = draw.choice(sites)
    values = _codes(draw, "circor", "age_group", "sex") | {"site": here, "outcome": "Normal"}
    values["outcome"] = draw.choice(["Normal", "Abnormal"])
    if draw.random() < 0.8:
        values |= {"height": draw.randint(400, 1800) / 10, "weight": draw.randint(30, 900) / 10}
    if draw.random() < 0.3:
        values["heart_rate"] = draw.randint(600, 1600) / 10
    values["murmur"] = draw.choice(["Present", "Present", "Absent", "Unknown"])
    values["murmur_here"] = values["murmur"].lower()
    if values["murmur"] == "Present":
        heard = tuple(draw.sample(sites, draw.randint(1, len(sites))))
        values |= {"murmur_sites": heard, "most_audible": draw.choice(heard)}
        values["murmur_here"] = "heard" if here in heard else "not_heard_here"
        phases = draw.choice(
            [("systolic",), ("systolic",), ("diastolic",), ("systolic", "diastolic")]
        )
        for phase in phases:
            values |= _codes(draw, "circor", *(f"{phase}_{part}" for part in _SYSTOLIC), p=1)
    return values


def coughvid(draw: Draw) -> Values:
    values: Values = {"cough_detected": round(draw.uniform(0.8, 1), 4)}
    if draw.random() < 0.7:
        values["age"] = float(draw.randint(5, 95))
    values |= _codes(draw, "coughvid", "sex", "status", p=0.7)
    if draw.random() < 0.7:
        values["respiratory_condition"] = draw.random() < 0.3
        values["fever_muscle_pain"] = draw.random() < 0.3
    for k in draw.sample("123", draw.choice([0, 1, 1, 3])):
        values |= _codes(draw, "coughvid", f"quality_{k}", p=1)
        if values[f"quality_{k}"] != "no_cough":
            names = (f"cough_type_{k}", f"diagnosis_{k}", f"severity_{k}")
            values |= _codes(draw, "coughvid", *names)
            signs = draw.sample(
                ["dyspnea", "wheezing", "stridor", "congestion"], draw.randint(0, 2)
            )
            values[f"signs_{k}"] = tuple(signs) or ("nothing",)
    return values


def hflung(draw: Draw) -> Values:
    values: Values = {"device": "steth"}
    if draw.random() < 0.5:
        values = {"device": "trunc", "location": draw.choice(["L1", "L2", "L4", "L5", "L6", "L8"])}
    for name in ("inhalations", "exhalations"):
        values[name] = draw.choice([0, 1, 2, 5, 8, 14])
    kinds = ("crackles", "wheezes", "rhonchi", "stridors")
    for name in kinds:
        values[name] = draw.choice([0, 0, 0, 1, 2, 12])
    return values | {"adventitious": any(values[k] for k in kinds)}


def icbhi(draw: Draw) -> Values:
    values = _codes(draw, "icbhi", "sex", "location", "mode", "device", "diagnosis", p=1)
    values["age"] = draw.choice([0.25, 0.58, 0.75, 1.17, 5.0, 16.0, 63.0, 70.0])
    if values["age"] < 18:
        values |= {"weight": draw.randint(50, 600) / 10, "height": float(draw.randint(60, 170))}
    else:
        values["bmi"] = draw.randint(1700, 5300) / 100
    cycles = draw.choice([1, 2, 3, 7, 11])
    for name in ("crackle_cycles", "wheeze_cycles"):
        values[name] = draw.choice([0, 0, draw.randint(0, cycles), cycles])
    return values | {"cycles": cycles}


def sprsound(draw: Draw) -> Values:
    values = _codes(draw, "sprsound", "sex", "location", "disease", "record", p=1)
    values["age"] = draw.randint(1, 169) / 10
    kinds = ("rhonchi", "wheezes", "stridors", "coarse_crackles", "fine_crackles")
    kinds = (*kinds, "wheezes_with_crackles")
    for name in kinds:
        values[name] = draw.choice([0, 0, 0, 1, 3])
    wrong = any(values[k] for k in kinds)
    values["normal_events"] = draw.choice([0, 1, 5, 12]) if wrong else draw.choice([1, 2, 12])
    if values["record"] != "Poor Quality":
        values["adventitious"] = wrong
    return values | {"label_conflict": draw.random() < 0.1}


def uk_covid19(draw: Draw) -> Values:
    names = ("age", "sex", "smoker_status", "covid_test_result", "covid_test_method")
    names = (*names, "influenza_a_test_result", "influenza_b_test_result")
    values = _codes(draw, "uk_covid19", "sound", p=1) | _codes(draw, "uk_covid19", *names)
    for name in ("asthma", "other_respiratory_condition"):
        if draw.random() < 0.9:
            values[name] = draw.random() < 0.3
    ticked = draw.sample(["cough_any", "sore_throat", "fatigue", "headache", "other"], 2)
    choices = [("none",), ("prefer_not_to_say",), tuple(ticked)]
    values["symptoms"] = draw.choice([*choices, ("cough_any", "new_continuous_cough", "fatigue")])
    if draw.random() < 0.4:
        values["covid_ct_mean"] = round(draw.uniform(12, 38), 3)
    return values


def zchsound(draw: Draw) -> Values:
    values = _codes(draw, "zchsound", "sex", "recording_set", "diagnosis", p=1)
    return values | {"age_days": draw.choice([0, 1, 3, 27, 60, 364, 365, 395, 2190, 4600])}


WORLDS: dict[str, Callable[[Draw], Values]] = {
    f.__name__: f for f in (circor, coughvid, hflung, icbhi, sprsound, uk_covid19, zchsound)
}


def rendered(dataset: str, recording_id: str, values: Values, strict: bool = False) -> Row:
    """The row of one report, as the tables have it."""
    manifest = load_all()[dataset]
    omit = manifest.strict_masks if strict else ()
    report = reports.render(manifest, recording_id, values, omit)
    said = [(s.text, s.findings) for s in report.sentences]
    return Row(recording_id, values, said, report.text)


def rows(dataset: str, count: int, seed: int = 1, strict: bool = False) -> Iterator[Row]:
    """Reports of made-up recordings."""
    draw = random.Random(f"{dataset}{seed}")
    for i in range(count):
        yield rendered(dataset, f"{dataset}/{seed}-{i}", WORLDS[dataset](draw), strict)


def audit_rows(manifest: Manifest, rows: Iterable[Row]) -> Summary:
    """What the audit says of reports."""
    auditor, summary = Auditor(manifest), Summary()
    for row in rows:
        summary.add(row.recording_id, row.text, auditor.defects(row), len(row.sentences))
    return summary
