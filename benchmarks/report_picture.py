"""Take the picture of docs/report.md: a report of two small runs, as a browser shows it.

python -m benchmarks.report_picture                   # trains both, writes docs/report.png
python -m benchmarks.report_picture --out elsewhere   # all pages, on a phone and in the dark, too
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from benchmarks.screenshots import CHROMIUM, DESKTOP, PHONE, shrink
from genjax.__main__ import main as run_command

PICTURE = Path("docs/report.png")
HEIGHT = 1500  # pixels of the picture in the docs
RUNS = {"wide": "16", "narrow": "4"}  # latent variables
TRAIN = "--steps 800 --every.log 20 --every.evaluate 100 --every.sample 200"


def main() -> None:
    """Train two runs, report them, and take pictures of the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", help="folder of pictures of the whole page")
    options = parser.parse_args()
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, latents in RUNS.items():
            words = [*TRAIN.split(), "--family.latent-dim", latents, "--run-dir", f"runs/{name}"]
            _run("train", "vae_digits", *words)
            _run("evaluate", f"runs/{name}")
        _run("report", *(f"runs/{name}" for name in RUNS), "--out", "report.html", "--price", "2")
        os.chdir(here)
        _take_pictures(Path(folder) / "report.html", options.out)


def _run(*words: str) -> None:
    code = run_command(words)
    if code:
        raise SystemExit(code)


def _take_pictures(page: Path, out: str | None) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for size, scheme in ((DESKTOP, "light"), (PHONE, "dark")):
            height = HEIGHT if out is None else size[1]
            visitor = browser.new_context(
                viewport={"width": size[0], "height": height},
                color_scheme="dark" if scheme == "dark" else "light",
            )
            tab = visitor.new_page()
            tab.goto(page.as_uri())
            path = PICTURE if out is None else Path(out) / f"report_{scheme}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(shrink(tab.screenshot(full_page=out is not None)))
            print(f"{path}: {path.stat().st_size:,} bytes")
            if out is None:
                break
        browser.close()


if __name__ == "__main__":
    main()
