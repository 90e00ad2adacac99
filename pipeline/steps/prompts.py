"""a task's classes -> statements in the words of the dataset's own reports."""

from acula_model.teachers import Report, hash_of
from pipeline.findings import resolve
from pipeline.manifest import Manifest
from pipeline.steps import reports
from pipeline.tasks import Class

PHRASINGS = 12  # renderings of a code; those that read the same are one statement


def of_task(manifest: Manifest, name: str) -> list[list[Report]]:
    """Statements of each class, in the order of its labels; none for a regression.

    The manifest's own ``prompts`` where it has some; else the report sentence that states the label
    and nothing else, in its phrasings; else the label and its words. The term of the code goes
    along where a report sentence says it, as it does in every report that training reads.
    """
    task = manifest.tasks[name]
    if task.prompts:
        return [[_plain(text) for text in task.prompts[c]] for c in task.codes]
    found: list[list[Report]] = []
    for codes in task.codes.values():
        said = [r for code in codes for r in _of_code(manifest, task.label, code)]
        found.append(list({r.hash: r for r in said}.values()))
    return found


def _of_code(manifest: Manifest, label: str, code: Class) -> list[Report]:
    if (reports.FOLDER / f"{manifest.id}.j2").is_file():
        terms = resolve(manifest, {label: code})[label].terms
        texts = [
            sentence.text
            for phrasing in range(PHRASINGS)
            for sentence in _sentences(manifest, f"{manifest.id}/prompt {phrasing}", label, code)
            if set(sentence.findings) == {label}
        ]
        if texts:
            return [Report(hash_of(t, terms), t, terms) for t in dict.fromkeys(texts)]
    spec = manifest.findings[label]
    words = spec.words.get(str(code)) or ("present" if code is True else "absent")
    called = spec.label[:1].upper() + spec.label[1:]
    return [_plain(f"{called}: {words}.")]


def _sentences(
    manifest: Manifest, key: str, label: str, code: Class
) -> tuple[reports.Sentence, ...]:
    try:
        return reports.render(manifest, key, {label: code}).sentences
    except reports.Silent:
        return ()


def _plain(text: str) -> Report:
    return Report(hash_of(text), text, ())
