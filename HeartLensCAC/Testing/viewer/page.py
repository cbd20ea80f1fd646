"""A reader at the page: what a person does with mouse and keys, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from small_chest import SHAPE
from viewer.reviewed_chest import Server, labels_of_state, scored_plainly

WAIT_MS = 180_000


class Reader:
    """Parameters

    ----------
    browser : of playwright
    server : that gives the page
    size : of the window, CSS pixels
    options : of the browser's context, such as `has_touch`
    """

    def __init__(self, browser: Any, server: Server, size: tuple[int, int] = (1280, 900), **options: Any) -> None:
        self.server = server
        self.image: Any = None  # of the scan that is shown, where it is not the usual one
        self.context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda line: self.complaints.append(line.text) if line.type == "error" else None)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(server.address)
        self.wait("[data-ready=yes]")

    def wait(self, selector: str) -> Any:
        found = self.page.locator(selector).first
        found.wait_for(state="attached", timeout=WAIT_MS)
        return found

    @property
    def version(self) -> int:
        return int(self.page.locator("body").get_attribute("data-version"))

    def edits(self, act: Callable[[], Any], count: int = 1) -> None:
        """Does something and waits for the edits that it makes; the page then shows what a second scorer says."""
        before = self.version
        act()
        self.wait(f'body[data-version="{before + count}"]')
        self.totals_are_right()

    def totals(self) -> dict[str, str]:
        """What the table of totals shows, by its letters."""
        rows = self.page.locator("#totals tr")
        return {row.locator("th").inner_text(): row.locator("td").nth(1).inner_text() for row in rows.all()}

    def totals_are_right(self) -> None:
        plain = scored_plainly(labels_of_state(self.server.state()), self.image)
        shown = self.totals()
        for name in ("LM", "LAD", "LCX", "RCA"):
            assert shown[name] == str(round(plain[name])), (name, shown, plain)
        expected = sum(score for name, score in plain.items() if name != "OTHER")
        assert shown["total"] == str(round(expected))

    def text(self, selector: str) -> str:
        """A text, after what is planned for the next picture is drawn."""
        self.page.evaluate("new Promise(requestAnimationFrame)")
        return str(self.page.locator(selector).inner_text())

    def key(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def slice(self) -> int:
        self.page.evaluate("new Promise(requestAnimationFrame)")
        return int(self.page.locator("body").get_attribute("data-slice"))

    def go_to_slice(self, k: int) -> None:
        self.page.locator("#axial").focus()
        self.key("End", *["ArrowUp"] * k)
        assert self.slice() == k

    def place(self, j: float, i: float) -> tuple[float, float]:
        """Where a voxel's middle is on the screen: the whole scan is square, and fills the axial image."""
        box = self.page.locator("#axial").bounding_box()
        side = min(box["width"], box["height"]) / SHAPE[1]
        return (
            box["x"] + box["width"] / 2 + (i + 0.5 - SHAPE[2] / 2) * side,
            box["y"] + box["height"] / 2 + (j + 0.5 - SHAPE[1] / 2) * side,
        )

    def click(self, j: float, i: float, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.down(key)
        self.page.mouse.click(*self.place(j, i))
        for key in keys:
            self.page.keyboard.up(key)

    def drag(self, *points: tuple[float, float], button: str = "left") -> None:
        start, *others = (self.place(*point) for point in points)
        self.page.mouse.move(*start)
        self.page.mouse.down(button=button)
        for point in others:
            self.page.mouse.move(*point, steps=4)
        self.page.mouse.up(button=button)

    def lesions(self) -> list[str]:
        """Each row of the queue, its marks as a screen reader hears them."""
        rows = self.page.locator("#lesions tr").all()
        return [re.sub(r"\s+", " ", row.inner_text()).strip() for row in rows]

    def close(self) -> None:
        self.context.close()
        outside = [url for url in self.asked if not url.startswith((self.server.base, "data:", "blob:"))]
        assert outside == []
        assert self.complaints == []
