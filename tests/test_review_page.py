"""The review page in a real browser: keys, undo, both languages, a phone's width, and rows that would be scripts."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import threading

import aiohttp
import httpx
import pytest
from label_rows import scored

from synthrec.review import decisions
from synthrec.review.decisions import Ledger
from synthrec.review.server import Review, Server
from synthrec.storage import Folder

pytestmark = pytest.mark.skipif(not shutil.which("chromium"), reason="needs Debian's chromium")
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>{{7*7}}</div>"
LEFT = "document.getElementById('count').textContent"


class Browser:
    """One page of Chromium, driven by its DevTools protocol."""

    def __init__(self, socket):
        self.socket, self.calls = socket, 0

    async def call(self, method, **parameters):
        self.calls += 1
        await self.socket.send_json({"id": self.calls, "method": method, "params": parameters})
        while True:
            told = await self.socket.receive_json(timeout=30)
            if told.get("id") == self.calls:
                return told["result"]

    async def js(self, code):
        found = await self.call("Runtime.evaluate", expression=code, returnByValue=True)
        return found["result"].get("value")

    async def key(self, key):
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def until(self, code, value):
        for _ in range(200):
            found = await self.js(code)
            if found == value:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{code} is {found!r}, not {value!r}")


@pytest.fixture
def drive(tmp_path):
    """`drive(rows, what)` opens the page of these rows and awaits `what(browser)`; gives the decisions."""
    root = Folder.open(str(tmp_path / "run"))
    ledger = Ledger(root, "me")
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    flags += " --disable-component-update --remote-debugging-port=0 --window-size=420,900 --lang=en"
    command = ["chromium", *flags.split(), f"--user-data-dir={tmp_path}/profile", "about:blank"]

    async def opened(port, url, what):
        async with aiohttp.ClientSession() as session:
            pages = httpx.get(f"http://127.0.0.1:{port}/json").json()
            address = next(one["webSocketDebuggerUrl"] for one in pages if one["type"] == "page")
            async with session.ws_connect(address) as socket:
                browser = Browser(socket)
                metrics = {"width": 360, "height": 700, "deviceScaleFactor": 2, "mobile": True}
                await browser.call("Emulation.setDeviceMetricsOverride", **metrics)
                await browser.call("Page.navigate", url=url)
                await browser.until("document.readyState", "complete")
                await what(browser)

    def run(rows, what):
        server = Server(Review([{"title": None} | row for row in rows], [], "me", ledger.append), 0)
        thread = threading.Thread(target=server.serve)
        thread.start()
        chromium = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            assert chromium.stderr
            port = next(m[1] for line in chromium.stderr if (m := re.search(r"listening on ws://[^:]+:(\d+)/", line)))
            asyncio.run(opened(port, server.url, what))
        finally:
            chromium.terminate()
            chromium.wait()
            server.stop()
            thread.join()
        return decisions.read(root)

    yield run
    ledger.close()


def test_a_person_accepts_corrects_rejects_and_takes_back_by_keys(drive):
    rows = [scored(n, [2.0, 0.0]) for n in range(4)]
    rows[3] |= {"language": "zh", "text": "猫咪喝水的机器"}

    async def what(page):
        await page.until(LEFT, "0 of 4 reviewed")
        assert await page.js("document.getElementById('score').textContent") == "88%"
        for key, left in [("a", 1), ("2", 2), ("u", 1), ("2", 2), ("r", 3)]:
            await page.key(key)
            await page.until(LEFT, f"{left} of 4 reviewed")
        assert await page.js("document.getElementById('text').textContent") == "猫咪喝水的机器"
        assert await page.js("document.getElementById('text').lang") == "zh-CN"
        await page.js("document.getElementById('tongue').click()")
        assert await page.js(LEFT) == "已看 3 / 4"
        assert await page.js("document.documentElement.lang") == "zh-CN"
        await page.key("1")  # the label that it has: the same as to accept
        await page.until(LEFT, "已看 4 / 4")
        await page.js("location.reload()")
        await page.until(LEFT, "4 of 4 reviewed")

    found = {one.id: (one.verdict, one.gold) for one in drive(rows, what)}
    expected = {"s000": ("accept", "positive"), "s001": ("correct", "negative")}
    assert found == expected | {"s002": ("reject", None), "s003": ("accept", "positive")}


def test_a_hostile_row_is_only_text_and_the_page_fits_a_phone(drive):
    rows = [scored(n, [2.0, 0.0]) | {"text": HOSTILE + "x" * 500, "title": HOSTILE} for n in range(2)]
    rows = [row | {"labels": ["positive", HOSTILE], "task": HOSTILE, "facet": "</script>" + HOSTILE} for row in rows]

    async def what(page):
        await page.until(LEFT, "0 of 2 reviewed")
        assert await page.js("document.getElementById('text').textContent") == HOSTILE + "x" * 500
        assert await page.js("document.querySelectorAll('main img, main script, main iframe').length") == 0
        assert await page.js("[...document.querySelectorAll('button')].some(b => b.textContent.includes('<img'))")
        assert await page.js("document.documentElement.scrollWidth") <= 360
        # Even if markup came in, the page's policy would not run it.
        await page.js("document.body.insertAdjacentHTML('beforeend', document.getElementById('text').textContent)")
        await page.key("2")
        await page.until(LEFT, "1 of 2 reviewed")
        assert await page.js("document.title") == "synthrec: review"
        reached = "performance.getEntriesByType('resource').every(one => one.name.startsWith(location.href))"
        assert await page.js(reached)

    assert [one.gold for one in drive(rows, what)] == [HOSTILE]
