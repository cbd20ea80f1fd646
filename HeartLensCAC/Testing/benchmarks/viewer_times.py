"""How the page in the browser feels, in a headless Chromium without a GPU. Part of `make bench`.

    python viewer_times.py SMALL LARGE RUNS     # two series; prints a table of its own

The server is `heartlens review` in a process of its own. The page times itself: from the moment that the browser gives
an event to the task that follows the picture with its effect, so that nothing of what drives the browser is in it.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

LIBRARY = Path(__file__).resolve().parents[2]

LEFT_OUT = "The page in the browser was left out: it needs chromium, and playwright; pip install 'heartlens[test]'"

CHROMIUM = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
WINDOW = {"width": 1400, "height": 860}
LONGEST_MS = 120_000.0

CASES = 4
"""So many are open at once at most."""

PER_RUN = {"wheel": 20, "give": 8}
"""Turns of the wheel, and lesions given to another artery, for each run."""

STROKE_MOVES = 120
FRAME_MS = 1000 / 30
LATE_MS = 1.0
"""Frames come every 16.7 ms by a clock that is not exact: two of them are a thirtieth of a second."""

TIMER = """
(() => {
  const afterPicture = () => new Promise((done) => requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => done(performance.now());
    port2.postMessage(0);
  }));
  const timed = (window.timed = { first: [], loaded: [], edits: [], events: {}, wheel: [], frames: [], afterPicture });
  for (const name of ["wheel", "click", "pointerdown"]) {
    addEventListener(name, (event) => (timed.events[name] = event.timeStamp), { capture: true, passive: true });
  }
  addEventListener("wheel", (event) => {
    const before = document.body.dataset.slice;
    afterPicture().then((now) => timed.wheel.push([now - event.timeStamp, before !== document.body.dataset.slice]));
  }, { capture: true, passive: true });
  const lists = { "data-first-ms": "first", "data-version": "edits", "data-loaded": "loaded" };
  addEventListener("DOMContentLoaded", () => new MutationObserver((changes) => {
    for (const { attributeName } of changes) {
      if (attributeName !== "data-loaded" || document.body.dataset.loaded === "yes") {
        afterPicture().then((now) => timed[lists[attributeName]].push(now));
      }
    }
  }).observe(document.body, { attributeFilter: Object.keys(lists) }));
  timed.watchFrames = () => {
    let isOn = true;
    const watch = (now) => {
      timed.frames.push(now);
      if (isOn) requestAnimationFrame(watch);
    };
    timed.frames = [];
    requestAnimationFrame(watch);
    timed.stopFrames = () => (isOn = false);
  };
})();
"""
"""In the page, before anything of it runs: notes when what was waited for had been drawn."""

Row = tuple[str, float, float, str]


def can_run() -> bool:
    """Chromium, what drives it, and a system that tells the memory of a process."""
    libraries = all(importlib.util.find_spec(name) for name in ("playwright", "starlette", "uvicorn"))
    return libraries and shutil.which("chromium") is not None and Path("/proc/self/status").exists()


def viewer_times(small: Path, large: Path, runs: int) -> list[Row]:
    """(what, measured, budget, unit) of each figure.

    Parameters
    ----------
    small, large
        Series of 48 and of 300 slices.
    runs
        How often; the large one half as often.
    """
    from playwright.sync_api import sync_playwright

    with TemporaryDirectory() as folder, sync_playwright() as started:
        place = Path(folder)
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=list(CHROMIUM))
        try:
            rows = [*_case_times(browser, "48 slices", _scored(small, place / "small"), runs, 1.0)]
            rows += _reading_times(browser, place / "small", runs)
            rows += _list_times(browser, place / "small", place / "list", runs)
            rows += _case_times(browser, "300 slices", _scored(large, place / "large"), max(2, runs // 2), 2.5)
        finally:
            browser.close()
    return rows


def _scored(series: Path, out: Path) -> Path:
    command = [sys.executable, "-m", "heartlens", "score", str(series), "--bundle", "none", "--out", str(out)]
    subprocess.run(command, env=_environment(), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return out


def _case_times(browser: Any, what: str, result: Path, runs: int, budget_s: float) -> Iterator[Row]:
    """From the start of the server to the first picture, and to the whole scan; and the server's memory then."""
    started, first, whole, memory = [], [], [], []
    for _ in range(runs + 1):
        with Server(result) as server, page_of(browser, server) as page:
            started.append(server.seconds)
            page.locator("body[data-ready=yes]").wait_for()
            timed = page.evaluate("({ first: timed.first[0], loaded: timed.loaded[0] })")
            first.append(timed["first"] / 1e3)
            whole.append(timed["loaded"] / 1e3)
            memory.append(server.memory_mb)
    yield f"browser: {what}: start to printed address", statistics.median(started[1:]), 1.5, "s"
    yield f"browser: {what}: address opened to first picture", statistics.median(first[1:]), budget_s, "s"
    share = statistics.median(a / b for a, b in zip(first[1:], whole[1:], strict=True))
    yield f"browser: {what}: first picture, of the whole scan's time", share, 1.0, ""
    yield f"browser: {what}: memory of the server", max(memory), 300.0, "MB"


def _reading_times(browser: Any, result: Path, runs: int) -> Iterator[Row]:
    """The wheel, a lesion given to another artery, and a stroke of the brush."""
    with Server(result) as server, page_of(browser, server) as page:
        page.locator("body[data-ready=yes]").wait_for()
        turned = _wheel_ms(page, PER_RUN["wheel"] * runs)
        given = _give_ms(page, PER_RUN["give"] * runs)
        late, frames = _stroke_frames(page, runs)
        memory = server.memory_mb
    yield "browser: wheel to picture", statistics.median(turned), 30.0, "ms"
    yield "browser: wheel to picture, 95 of 100", _percentile(turned, 0.95), 60.0, "ms"
    yield "browser: click to redrawn totals", statistics.median(given), 50.0, "ms"
    yield f"browser: frames of {frames} in strokes later than 1/30 s", float(late), 0.0, ""
    yield "browser: memory of the server after these edits", memory, 300.0, "MB"


def _list_times(browser: Any, result: Path, place: Path, runs: int) -> Iterator[Row]:
    """The next case, which was read ahead; and the memory of the server with as many cases as it keeps."""
    for n in range(CASES):
        shutil.copytree(result, place / f"case-{n}")
    taken = []
    with Server(place) as server, page_of(browser, server) as page:
        for n in range(CASES * runs):
            page.locator("body[data-ready=yes]").wait_for()
            page.wait_for_timeout(1000 if n < CASES else 100)  # a reader reads, and the next case is read ahead
            button = "#nextCase" if (n // (CASES - 1)) % 2 == 0 else "#previousCase"
            count = page.evaluate("timed.first.length")
            page.locator(button).click()
            _wait(page, lambda count=count: page.evaluate("timed.first.length") > count)
            taken.append(page.evaluate("timed.first.at(-1) - timed.events.click"))
        memory = server.memory_mb
    yield "browser: next case to its first picture", statistics.median(taken), 300.0, "ms"
    yield "browser: next case to its first picture, longest", max(taken), 300.0, "ms"
    yield f"browser: memory of the server with {CASES} cases", memory, 250.0 + 50.0 * CASES, "MB"


def _wheel_ms(page: Any, count: int) -> list[float]:
    """Up through the scan and down again, notch by notch."""
    box = page.locator("#axial").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    direction = -100
    for n in range(count):
        page.mouse.wheel(0, direction)
        page.wait_for_timeout(30 + 7 * n % 40)  # not in step with the frames
        if page.evaluate("timed.wheel.at(-1)?.[1] === false"):
            direction = -direction
    _wait(page, lambda: page.evaluate("timed.wheel.length") >= count)
    return [ms for ms, is_new in page.evaluate("timed.wheel") if is_new]


def _give_ms(page: Any, count: int) -> list[float]:
    """Lesions one after the other, by the buttons of the panel."""
    page.locator("#axial").focus()
    taken = []
    for n in range(count):
        if n % 4 == 0:
            page.locator("#axial").focus()
            page.keyboard.press("n")
        other = page.locator("#selected .give button[aria-pressed=false]").nth(n % 3)
        seen = page.evaluate("timed.edits.length")
        other.click()
        _wait(page, lambda seen=seen: page.evaluate("timed.edits.length") > seen)
        taken.append(page.evaluate("timed.edits.at(-1) - timed.events.click"))
    return taken


def _stroke_frames(page: Any, count: int) -> tuple[int, int]:
    """How many frames came late while the largest brush went over a lesion and what lies beside it, and of how many."""
    page.locator("#radius").select_option("8")
    page.locator("#axial").focus()
    for key in ("Escape", "h", "n", "b"):  # in a zoomed image, the lesion that is chosen comes to its middle
        page.keyboard.press(key)
    box = page.locator("#axial").bounding_box()
    x, y, reach = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, 0.4 * box["width"]
    late = frames = 0
    for n in range(count):
        page.keyboard.press("1234"[n % 4])
        seen = page.evaluate("timed.edits.length")
        page.mouse.move(x - reach, y)
        page.mouse.down()
        page.evaluate("timed.watchFrames()")
        page.mouse.move(x + reach, y, steps=STROKE_MOVES)
        page.evaluate("timed.stopFrames()")
        page.mouse.up()
        stamps = page.evaluate("timed.frames")
        gaps = [b - a for a, b in itertools.pairwise(stamps)]
        frames += len(gaps)
        late += sum(gap > FRAME_MS + LATE_MS for gap in gaps)
        _wait(page, lambda seen=seen: page.evaluate("timed.edits.length") > seen)
    return late, frames


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _wait(page: Any, until: Callable[[], bool]) -> None:
    end = time.monotonic() + LONGEST_MS / 1e3
    while not until():
        page.wait_for_timeout(15)
        if time.monotonic() > end:
            raise TimeoutError("the page never came so far")


@contextmanager
def page_of(browser: Any, server: Server) -> Iterator[Any]:
    """The page in a tab that nobody has used."""
    context = browser.new_context(viewport=WINDOW)
    context.add_init_script(TIMER)
    page = context.new_page()
    page.set_default_timeout(LONGEST_MS)
    page.goto(server.address)
    try:
        yield page
    finally:
        context.close()


class Server:
    """`heartlens review`, and after how many seconds it told its address."""

    def __init__(self, place: Path) -> None:
        start = time.perf_counter()
        command = [sys.executable, "-m", "heartlens", "review", "--reader", "Bench", str(place)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment(), text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.seconds = time.perf_counter() - start
        if not line.startswith("Review: "):
            raise RuntimeError("the server did not start")
        self.address = line.split()[1]

    @property
    def memory_mb(self) -> float:
        """Resident memory of the process."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.process.stdout.close()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(LIBRARY)}


def main(small: Path, large: Path, runs: int) -> None:
    for what, measured, budget, unit in viewer_times(small, large, runs):
        print(f"{what:<60}{measured:>10.3f}{budget:>10.3f} {unit:<4}{'ok' if measured <= budget else 'OVER'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
