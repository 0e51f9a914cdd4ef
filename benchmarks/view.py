"""How soon the page of ``spectile view`` shows a large cube, and the spectrum of a click, in Chromium.

    python benchmarks/view.py                   2000² px, 48 bands; 300 MB of disk
    python benchmarks/view.py --size 10000      7 GB of disk
    python benchmarks/view.py --cube CUBE.zarr  one that is there, its middle valid

Nothing of the cube is in memory when a page is opened for the first time, and each page is opened in a
browser that has kept nothing. Times are from the browser's request, or from the click, until what was asked
for has been drawn; CPU seconds are of server and browser together. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from overviews import make
from shared import leave_out

from spectile.flows.benchmark.model import machine
from spectile.pipeline.cube.finish import finalise

CLICKS = 20
VISITS = 5
"""Pages that are opened after the first one."""
GLYPHS = "Bokeh.documents[0].get_model_by_name('{}').renderers.filter(r => r.glyph.type == '{}')"
IMAGES = f"window.Bokeh?.documents.length && {GLYPHS.format('map', 'ImageRGBA')}"
SHOWN = f"{IMAGES}.some(r => r.data_source.data.image.length)"
SHARP = f"{IMAGES}.every(r => r.data_source.data.image.length)"
"""Cubes of 1024 px or less a side need no piece that is finer than the first picture."""
CURVES = f"{GLYPHS.format('chart', 'MultiLine')}.at(-1).data_source.data.x.length"
DRAWN = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def forget(cube: Path) -> None:
    """Put a cube's files out of the memory that the system keeps them in."""
    os.sync()
    for path in cube.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def served(cube: Path) -> Iterator[tuple[str, float]]:
    """The command in a process of its own: the page's address, and the seconds until it was told."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "spectile", "view", str(cube), "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            found = None
            while found is None and (line := process.stderr.readline()):
                found = re.search(r"http://\S+/", line)
            if found is None:
                raise SystemExit("spectile view has not started")
            yield found[0], time.perf_counter() - began
        finally:
            process.terminate()


def taken(tab: Any, act: Callable[[], object], until: str) -> NDArray[np.float64]:
    """Seconds and CPU seconds from an act until JavaScript says that it is done, and the page is drawn."""
    began, busy = time.perf_counter(), cpu_seconds()
    act()
    tab.wait_for_function(f"() => !!({until})")
    tab.evaluate(DRAWN)
    return np.array([time.perf_counter() - began, cpu_seconds() - busy])


def cpu_seconds() -> float:
    """What the processes that this one has started have computed."""
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            spent = child.cpu_times()
            total += spent.user + spent.system
    return total


def chromium() -> str | None:
    """The browser that is installed."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def measure(cube: Path) -> dict[str, Any]:
    """What the page takes."""
    from playwright.sync_api import sync_playwright

    forget(cube)
    chance = np.random.default_rng(1)
    with served(cube) as (url, start), sync_playwright() as playwright:
        browser: Any = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        pictures, sharp, clicks = [], [], []
        for visit in range(1 + VISITS):
            tab = browser.new_page(viewport={"width": 1300, "height": 800})
            pictures.append(taken(tab, partial(tab.goto, url, wait_until="commit"), SHOWN))
            sharp.append(pictures[-1] + taken(tab, lambda: None, SHARP))
            if visit < VISITS:
                tab.close()
        tab.wait_for_function("() => Bokeh.documents[0].is_idle")
        box = tab.locator(".fill").first.bounding_box()
        side = min(box["width"], box["height"])
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        for number in range(1, CLICKS + 1):
            x, y = np.asarray(middle) + 0.8 * side * (chance.random(2) - 0.5)
            clicks.append(taken(tab, partial(tab.mouse.click, float(x), float(y)), f"{CURVES} == {number}"))
            time.sleep(0.5)  # the page draws nothing else meanwhile
        browser.close()
    return {
        "seconds_of_the_command": round(start, 2),
        **{
            name: {
                kind: {"first": numbers[0], "median": float(np.median(numbers)), "largest": max(numbers)}
                for kind, numbers in zip(
                    ("seconds", "cpu_seconds"), np.round(each, 3).T.tolist(), strict=True
                )
            }
            for name, each in {"picture": pictures, "sharp_picture": sharp, "spectrum": clicks}.items()
        },
    }  # fmt: skip


def main() -> None:
    """Make a cube, look at it, print what that took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=2000, help="rows and columns of the cube, px")
    parser.add_argument("--cube", type=Path, help="a cube to look at, instead of making one")
    parser.add_argument("--folder", type=Path, help="where one is made and removed; default a temporary one")
    given = parser.parse_args()
    if chromium() is None:
        leave_out("it needs Chromium; apt-get install chromium")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        began = time.perf_counter()
        path = given.cube
        if path is None:
            finalise(make(Path(folder), given.size), attributes={})
            path = Path(folder) / "cube.zarr"
        made = round(time.perf_counter() - began, 1)
        found = measure(path)
        shape = json.loads((path / "reflectance" / "zarr.json").read_text())["shape"]
        stored = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        print(json.dumps({
            "shape": shape, "stored_bytes": stored, "seconds_to_make": made, **found,
            "load_average": round(os.getloadavg()[0], 1), "machine": machine(),
        }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
