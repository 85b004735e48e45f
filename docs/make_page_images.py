"""Take the pictures of the page: docs/images/page.png, page-narrow.png and evaluation.png.

    python -m docs.make_page_images

What is recognised is one test clip each of three languages, one after another, with pauses. Needs a finished
`make repro`, the package playwright, and a Chromium on the PATH (Debian: apt install chromium).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from PIL import Image

from stages.pipeline.manifest_table import read_manifest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

IMAGES = Path(__file__).parent / "images"
LANGUAGES = ("es", "fi", "tr")
SCALE = 1.25  # pixels of the picture for one of the page
CORPUS = Path("data/demo/clips")
# It keeps to this machine: no update, no list of bad sites, no account.
ARGUMENTS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",  # as root it has none
)


def find_chromium() -> str | None:
    """A Chromium or Chrome on the PATH."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def conversation(path: Path) -> Path:
    """Write the recording that is recognised."""
    rows = [row for row in read_manifest() if row.split == "test"]
    pieces = []
    for language in LANGUAGES:
        clip = next(row.path for row in rows if row.language == language)
        samples, rate_hz = soundfile.read(CORPUS / clip, always_2d=True)
        pieces += [samples.mean(axis=1), np.zeros(3 * rate_hz // 2)]
    soundfile.write(path, np.concatenate(pieces[:-1]), rate_hz)
    return path


def main() -> int:
    """Take them all; returns the exit status."""
    from playwright.sync_api import sync_playwright

    chromium = find_chromium()
    if not chromium or not CORPUS.is_dir():
        print(f"expected {CORPUS} (run `make repro`) and a Chromium on the PATH", file=sys.stderr)
        return 2
    place = tempfile.TemporaryDirectory()
    recording = conversation(Path(place.name) / "three-languages.wav")
    command = [sys.executable, "-m", "app.page", "--no-browser", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        found = re.match(r"http://\S+", server.stdout.readline() if server.stdout else "")
        if not found:
            return 1
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
            _recognised(browser, found[0], recording, 1120, IMAGES / "page.png")
            _recognised(browser, found[0], recording, 390, IMAGES / "page-narrow.png")
            page = _open(browser, found[0] + "evaluation", 1120)
            _save(page, IMAGES / "evaluation.png", height=1500)
            browser.close()
    finally:
        server.terminate()
        server.wait(20)
        place.cleanup()
    return 0


def _open(browser: Browser, url: str, width: int) -> Page:
    page = browser.new_page(viewport={"width": width, "height": 800}, device_scale_factor=SCALE)
    page.goto(url)
    page.wait_for_load_state("networkidle")
    return page


def _recognised(browser: Browser, url: str, recording: Path, width: int, path: Path) -> None:
    page = _open(browser, url, width)
    page.set_input_files("#file", recording)
    page.wait_for_selector("#result:not([hidden])")
    page.locator("#player").evaluate("e => e.readyState || new Promise(done => e.onloadedmetadata = () => done())")
    _save(page, path)


def _save(page: Page, path: Path, height: int = 0) -> None:
    """In 256 colours: a third of the bytes, and none of it seen."""
    picture = Image.open(BytesIO(page.screenshot(full_page=True))).convert("RGB")
    if height:
        picture = picture.crop((0, 0, picture.width, min(picture.height, round(SCALE * height))))
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    page.close()


if __name__ == "__main__":
    sys.exit(main())
