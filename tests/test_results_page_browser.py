"""The results page in a browser: sorting, filters, details, maps, and without a script."""

from typing import Any

import pytest
from page_world import World, rows_of, world


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    here = world(tmp_path_factory.mktemp("data"))
    assert not here.make().skipped
    return here


@pytest.mark.browser
def test_a_browser_sorts_filters_and_opens_by_keyboard(made: World, chromium: Any) -> None:
    from playwright.sync_api import expect

    view = chromium.new_page()
    said: list[str] = []
    requests: list[str] = []
    view.on("console", lambda m: said.append(m.text))
    view.on("pageerror", lambda e: said.append(str(e)))
    view.on("request", lambda r: requests.append(r.url))
    place = made.corpus.page.as_uri()
    view.goto(place)
    rows = [r for r in rows_of(made).values() if r["mark"] != "none"]
    known = sorted(rows, key=lambda r: r["after_value"])

    def shown() -> list[tuple[str, str]]:
        return [tuple(v) for v in view.locator("tbody.entry:visible").evaluate_all(
            "all => all.map(e => [e.dataset.task, e.dataset.variant])")]  # fmt: skip

    assert len(shown()) == len(known)  # run only, until asked for more
    head = view.locator("th[data-key=after]")
    head.get_by_role("button").focus()
    for direction, order in (("ascending", known), ("descending", known[::-1])):
        view.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == direction
        assert shown() == [(r["task"], r["variant"]) for r in order]
    assert "sorted by after, descending" in view.locator("#shown").inner_text()

    view.get_by_label("run only").press("Space")
    assert len(shown()) > len(known) and shown()[0] == (known[-1]["task"], known[-1]["variant"])
    view.locator("select[name=variant]").select_option("as_published")
    view.locator("select[name=dataset]").select_option("icbhi")
    assert ("icbhi/copd", "as_published") in shown() and (
        "icbhi/copd",
        "subject_clean",
    ) not in shown()
    view.get_by_role("button", name="Show all").click()
    expect(view.locator("tbody.entry[hidden]")).to_have_count(0)

    for row in known:
        entry = view.locator(
            f"tbody[data-task='{row['task']}'][data-variant='{row['variant']}'][data-run=yes]"
        )
        curve = entry.get_by_role("img", name="ROC curve")
        entry.locator("td.num").nth(2).click()  # any number leads to what is behind it
        assert curve.is_visible()
        entry.locator("td.num").nth(2).click()
        assert not curve.is_visible()
        entry.locator("summary").first.press("Enter")
        assert curve.is_visible()
        text = entry.inner_text()
        for name in ("before", "after"):
            score = (
                f"{row[f'{name}_value']:.3f}",
                f"[{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]",
            )
            assert all(part in text for part in score)
    view.locator("label", has_text="device").first.click()
    assert view.get_by_role("img", name="after alignment by device").is_visible()
    assert not view.get_by_role("img", name="after alignment by dataset").is_visible()
    view.close()
    assert not said
    assert [u for u in requests if not u.startswith("data:")] == [place]


@pytest.mark.browser
def test_without_a_script_everything_can_be_read(made: World, chromium: Any) -> None:
    context = chromium.new_context(java_script_enabled=False)
    view = context.new_page()
    view.goto(made.corpus.page.as_uri())
    assert view.locator("tbody.entry:visible").count() == len(rows_of(made))
    assert not view.locator("#filters").is_visible()
    entry = view.locator("tbody[data-task='icbhi/copd']").first
    entry.locator("summary").first.press("Enter")
    assert entry.get_by_text("How good, how well calibrated").is_visible()
    context.close()
