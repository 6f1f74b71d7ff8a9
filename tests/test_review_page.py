"""The review page in a real browser: keys, undo, both languages, a phone's width, and rows that would be scripts."""

from __future__ import annotations

import shutil
import threading

import pytest
from label_rows import scored
from playwright.sync_api import expect

from synthrec.review import decisions
from synthrec.review.decisions import Ledger
from synthrec.review.server import Review, Server
from synthrec.storage import Folder

pytestmark = pytest.mark.skipif(not shutil.which("chromium"), reason="needs Debian's chromium")
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>{{7*7}}</div>"
PHONE = {"viewport": {"width": 360, "height": 700}, "device_scale_factor": 2, "is_mobile": True}


@pytest.fixture
def review(browser, tmp_path):
    """`review(rows, what)` opens the page of these rows on a phone and calls `what(page)`; gives the decisions."""
    root = Folder.open(str(tmp_path / "run"))
    ledger = Ledger(root, "me")

    def run(rows, what):
        server = Server(Review([{"title": None} | row for row in rows], [], "me", ledger.append), 0)
        thread = threading.Thread(target=server.serve)
        thread.start()
        page = browser.new_page(locale="en-GB", **PHONE)
        try:
            page.goto(server.url)
            what(page)
        finally:
            page.close()
            server.stop()
            thread.join()
        return decisions.read(root)

    yield run
    ledger.close()


def test_a_person_accepts_corrects_rejects_and_takes_back_by_keys(review):
    rows = [scored(n, [2.0, 0.0]) for n in range(4)]
    rows[3] |= {"language": "zh", "text": "猫咪喝水的机器"}

    def what(page):
        count = page.locator("#count")
        expect(count).to_have_text("0 of 4 reviewed")
        expect(page.locator("#score")).to_have_text("88%")
        for key, left in [("a", 1), ("2", 2), ("u", 1), ("2", 2), ("r", 3)]:
            page.keyboard.press(key)
            expect(count).to_have_text(f"{left} of 4 reviewed")
        expect(page.locator("#text")).to_have_text("猫咪喝水的机器")
        expect(page.locator("#text")).to_have_attribute("lang", "zh-CN")
        page.locator("#tongue").click()
        expect(count).to_have_text("已看 3 / 4")
        expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
        page.keyboard.press("1")  # the label that it has: the same as to accept
        expect(count).to_have_text("已看 4 / 4")
        page.reload()
        expect(count).to_have_text("4 of 4 reviewed")

    found = {one.id: (one.verdict, one.gold) for one in review(rows, what)}
    expected = {"s000": ("accept", "positive"), "s001": ("correct", "negative")}
    assert found == expected | {"s002": ("reject", None), "s003": ("accept", "positive")}


def test_a_hostile_row_is_only_text_and_the_page_fits_a_phone(review):
    rows = [scored(n, [2.0, 0.0]) | {"text": HOSTILE + "x" * 500, "title": HOSTILE} for n in range(2)]
    rows = [row | {"labels": ["positive", HOSTILE], "task": HOSTILE, "facet": "</script>" + HOSTILE} for row in rows]

    def what(page):
        count = page.locator("#count")
        expect(count).to_have_text("0 of 2 reviewed")
        assert page.locator("#text").text_content() == HOSTILE + "x" * 500
        assert page.locator("main img, main script, main iframe").count() == 0
        assert page.locator("button", has_text="<img").count() > 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        # Even if markup came in, the page's policy would not run it.
        page.evaluate("document.body.insertAdjacentHTML('beforeend', document.getElementById('text').textContent)")
        page.keyboard.press("2")
        expect(count).to_have_text("1 of 2 reviewed")
        assert page.title() == "synthrec: review"
        reached = "performance.getEntriesByType('resource').every(one => one.name.startsWith(location.href))"
        assert page.evaluate(reached)

    assert [one.gold for one in review(rows, what)] == [HOSTILE]
