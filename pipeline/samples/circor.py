"""A look-alike of CirCor 1.0.3: sound, header and segmentation per recording, two tables.

Which visits there are and what they sound like is drawn in ``circor_visits``.
"""

import csv
import hashlib
import wave
from pathlib import Path

from pipeline.samples import heart
from pipeline.samples.circor_visits import COLUMNS, FEWEST, Visit, draw
from pipeline.samples.signal import Job, Rng, render, rng

FOLDER = "the-circor-digiscope-phonocardiogram-dataset-1.0.3"


def write(root: Path, seed: int, scale: float = 1.0) -> None:
    visits = draw(seed, max(FEWEST, round(90 * scale)))
    base = root / FOLDER
    data = base / "training_data"
    data.mkdir(parents=True)
    jobs: list[Job] = []
    for visit in visits:
        device = heart.device(rng(seed, "circor", visit.cells["Patient ID"], "device"))
        for stem, site in visit.stems():
            jobs.append((_recording, data / f"{stem}.wav", {
                "seed": seed,
                "site": site,
                "heart_": visit.heart_at(site),
                "device": device,
                "quiet": visit.quiet,
                "damage": visit.damage_at(site),
            }))  # fmt: skip
        (data / f"{visit.cells['Patient ID']}.txt").write_text(_text(visit))
    # Sound that no row of the table describes.
    jobs.append((_recording, data / "49001_AV.wav", {
        "seed": seed, "site": "AV", "heart_": heart.Heart(beats_per_minute=90),
        "device": heart.Device(), "quiet": 0.0, "damage": None,
    }))  # fmt: skip
    render(jobs)
    with (base / "training_data.csv").open("w", newline="") as lines:
        table = csv.writer(lines, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows([v.cells[c] for c in COLUMNS] for v in visits)
    names = [f"training_data/{stem}\n" for v in visits for stem, _ in sorted(v.stems())]
    (base / "RECORDS").write_text("".join(names))
    (base / "LICENSE.txt").write_text("# Synthetic sample\n\nNo recording of a person is in it.\n")
    sums = [
        f"{hashlib.sha256(p.read_bytes()).hexdigest()} {p.relative_to(base).as_posix()}\n"
        for p in sorted(base.rglob("*"))
        if p.is_file()
    ]
    (base / "SHA256SUMS.txt").write_text("".join(sums))


def _text(visit: Visit) -> str:
    lines = [f"{visit.cells['Patient ID']} {len(visit.sites)} {heart.RATE}"]
    lines += [f"{site} {stem}.hea {stem}.wav {stem}.tsv" for stem, site in visit.stems()]
    lines += [f"#{column}: {visit.cells[column]}" for column in COLUMNS[2:]]
    return "\n".join(lines) + "\n"


def _recording(
    path: Path,
    seed: int,
    site: str,
    heart_: heart.Heart,
    device: heart.Device,
    quiet: float,
    damage: str | None,
) -> None:
    r = rng(seed, "circor", path.stem)
    seconds = round(float(r.uniform(7, 11)), 2)
    signal, cycle = heart.sound(r, seconds, heart_, device, heart.room(r, quiet))
    pcm = heart.pcm(r, signal if damage != "silent" else signal * 0)
    header = (
        f"{path.stem} 1 {heart.RATE} {len(signal)}\r\n{path.name} 16+44 1 16 0 0 0 0 {site}\r\n"
    )
    path.with_suffix(".hea").write_text(header, newline="")
    path.with_suffix(".tsv").write_text(_segments(r, cycle, len(signal) / heart.RATE))
    if damage == "empty":
        path.touch()
    elif damage != "absent":
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(heart.RATE)
            file.writeframes(pcm)
        if damage == "truncated":
            path.write_bytes(path.read_bytes()[: 44 + len(pcm) // 3])


def _segments(r: Rng, cycle: list[heart.Beat], seconds: float) -> str:
    """Between 20 and 43 % annotated, with edges that overlap or part and often no last row."""
    whole = [b for b in cycle if b.s1 > 0.1 and b.end < seconds]
    count = max(2, int(r.uniform(0.25, 0.43) * len(whole)))
    begin = int(r.integers(0, len(whole) - count + 1))
    inside = whole[begin : begin + count]
    rows: list[tuple[float, float, int]] = [(0.0, inside[0].s1, 0)]
    for beat in inside:
        edges = (beat.s1, beat.systole, beat.s2, beat.diastole, beat.end)
        for state in (1, 2, 3, 4):
            slip = float(r.choice([0.0, 0.0, -0.0003, 0.0012]))
            rows.append((edges[state - 1] + slip, edges[state], state))
    if r.random() < 0.8:
        rows.append((inside[-1].end, seconds, 0))
    return "".join(f"{_plain(a)}\t{_plain(b)}\t{state}\n" for a, b, state in rows)


def _plain(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".")
