"""Show what `train` prints on a terminal, in a pipe and in a notebook, for six families.

    python -m benchmarks.screens            # writes docs/screens.md, screen.png and notebook.png
    python -m benchmarks.screens --out elsewhere --only vae_digits

The runs are tiny. Runs and captures are written to a temporary folder, or to that of `--keep`. The
terminal needs tmux and the pictures need Chromium.
"""

from __future__ import annotations

import argparse
import html
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbclient
import nbformat

ROOT = Path(__file__).resolve().parent.parent
WIDTH, HEIGHT = 80, 40  # the size of the terminal, in characters
PATIENCE = 600  # the most seconds for a run
MOST = 25  # the most lines of a capture on the page
PLACES = ("half-way", "terminal", "pipe", "notebook")
DONE = "the command has ended"
STYLE = "margin:0;padding:14px;font:14px/19px 'DejaVu Sans Mono',monospace;white-space:pre-wrap"
INTRODUCTION = f"""\
# Screens

`python -m benchmarks.screens` writes this page. It trains six families with tiny configs, so the
numbers say nothing of the models; the commands are shown without their options for shorter
intervals. Each block shows a terminal of {WIDTH} columns at the end; while a run
trains, the last line is a bar that is redrawn.

![A terminal: the bar of a run, and lines of its evaluations above it](screen.png)

*`train gan_digits` half-way, and `train classifier_digits` at its end.*

![A notebook: one line that is updated, with the newest samples below it](notebook.png)

*The same of a cell that calls `genjax.train`.*
"""


@dataclass(frozen=True)
class Screen:
    """A run to show.

    Attributes:
      family: the title of the family on the page.
      config: the name of the config to train.
      options: the options of the command.
    """

    family: str
    config: str
    options: str


EVERY = "--every.log {} --every.evaluate {} --every.sample {} --every.checkpoint 40"
SCREENS = (
    Screen("VAE", "vae_digits", f"--tiny --steps 40 {EVERY.format(4, 20, 20)}"),
    Screen("GAN", "gan_digits", f"--tiny --steps 40 {EVERY.format(2, 20, 20)}"),
    Screen("Diffusion", "diffusion_digits", f"--tiny --steps 40 {EVERY.format(2, 20, 20)}"),
    Screen("Autoregressive", "gpt_docs", f"--tiny --steps 40 {EVERY.format(2, 20, 20)}"),
    Screen("Classifier", "classifier_digits", f"--tiny --steps 40 {EVERY.format(4, 20, 0)}"),
    Screen("PPO", "ppo_positive", f"--tiny --steps 40 {EVERY.format(2, 20, 20)}"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the runs, write the page and pictures, and return the exit code."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of the page")
    parser.add_argument("--only", help="one config, of which all captures are printed")
    parser.add_argument("--keep", type=Path, help="folder of the captures; what is there stays")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if options.only is not None:
            for screen in SCREENS:
                if screen.config == options.only:
                    print("\n".join(f"== {n}\n{t}" for n, t in capture(screen, folder).items()))
            return 0
        captures = {screen: capture(screen, folder) for screen in SCREENS}
        options.out.mkdir(parents=True, exist_ok=True)
        page = write_page({screen: found["terminal"] for screen, found in captures.items()})
        (options.out / "screens.md").write_text(page, encoding="utf-8")
        gan, classifier = captures[SCREENS[1]], captures[SCREENS[4]]
        take_picture(
            options.out / "screen.png",
            draw_terminal(gan["half-way"]) + draw_terminal(classifier["terminal"]),
        )
        shutil.copy(folder / "vae_digits.png", options.out / "notebook.png")
    return 0


def capture(screen: Screen, folder: Path) -> dict[str, str]:
    """Return the text that a run shows in each place, and write each text to the folder."""
    name = screen.config
    texts = {place: folder / f"{name} {place}.txt" for place in PLACES}
    if all(path.exists() for path in texts.values()):
        return {place: path.read_text(encoding="utf-8") for place, path in texts.items()}
    frames = train_on_terminal(screen, folder)
    found = {
        "half-way": next((frame for frame in frames if is_half_way(frame)), frames[-1]),
        "terminal": frames[-1],
        "pipe": train_in_pipe(screen, folder),
    }
    cell = train_in_notebook(screen, folder)
    found["notebook"] = "\n".join(output for output in map(read_output, cell.outputs) if output)
    take_picture(folder / f"{name}.png", draw_cell(cell))
    for place, text in found.items():
        texts[place].write_text(text, encoding="utf-8")
    return found


def is_half_way(frame: str) -> bool:
    """Return whether a frame shows the bar half-way, with an evaluation above it."""
    done = re.search(r"step (\d+)/40", frame.strip().splitlines()[-1] if frame.strip() else "")
    return done is not None and 20 <= int(done[1]) < 40 and "held out" in frame


def command_of(screen: Screen) -> list[str]:
    """Return the command that trains the run."""
    program = [sys.executable, "-m", "genjax", "train"]
    return [*program, screen.config, *shlex.split(screen.options)]


def open_folder(folder: Path, place: str) -> Path:
    """Create and return the folder for the runs of a place."""
    (folder / place).mkdir(exist_ok=True)
    return folder / place


def environment() -> dict[str, str]:
    """Return the environment of a process that imports this checkout."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "LC_ALL": "C.UTF-8"}


def train_on_terminal(screen: Screen, folder: Path) -> list[str]:
    """Return every frame of a terminal that differs from the one before, until the command ends.

    Raises:
      RuntimeError: the command takes too long.
    """
    socket = f"genjax-screens-{os.getpid()}"
    shown = f"python -m genjax train {screen.config} --tiny --steps 40"
    line = shlex.join(command_of(screen))
    script = f"printf '$ %s\\n' {shlex.quote(shown)}; {line}; echo; echo {shlex.quote(DONE)}; cat"
    size = ["-x", str(WIDTH), "-y", str(HEIGHT)]
    tmux = ["tmux", "-u", "-L", socket]
    start = [*tmux, "-f", "/dev/null", "new-session", "-d", *size, script]
    subprocess.run(start, cwd=open_folder(folder, "terminal"), env=environment(), check=True)
    frames, end = [""], time.monotonic() + PATIENCE
    try:
        while DONE not in frames[-1]:
            time.sleep(0.05)
            look = [*tmux, "capture-pane", "-p", "-S", "-"]
            frame = subprocess.run(look, capture_output=True, text=True, check=True).stdout
            if frame != frames[-1]:
                frames.append(frame)
            if time.monotonic() > end:
                raise RuntimeError(f"{screen.config} takes too long; the terminal has\n{frame}")
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
    return [tidy(frame) for frame in frames[1:]]


def tidy(frame: str) -> str:
    """Return a frame of a terminal without the mark that the command has ended."""
    lines = [line.rstrip() for line in frame.splitlines() if line.strip() != DONE]
    return "\n".join(lines).strip("\n") + "\n"


def train_in_pipe(screen: Screen, folder: Path) -> str:
    """Train with the output in a pipe, and return the standard error."""
    command, here = command_of(screen), open_folder(folder, "pipe")
    done = subprocess.run(
        command, cwd=here, env=environment(), capture_output=True, text=True, check=True
    )
    return done.stderr


def train_in_notebook(screen: Screen, folder: Path) -> nbformat.NotebookNode:
    """Run a notebook cell that trains, and return it with its outputs."""
    changes = {  # the fields that the options of `train` set
        key.removeprefix("--"): int(value)
        for key, value in re.findall(r"(--[\w.]+) (\d+)", screen.options)
    }
    source = (
        "import genjax\nfrom genjax import gx\nfrom genjax.config_files import load_config\n\n"
        f"experiment, _ = load_config({screen.config!r}, tiny=True)\n"
        f"experiment = gx.replace_fields(experiment, {changes})\n"
        f"run = genjax.train(experiment, {f'runs/{screen.config}'!r})"
    )
    cell = nbformat.v4.new_code_cell(source)  # type: ignore[no-untyped-call]
    notebook = nbformat.v4.new_notebook(cells=[cell])  # type: ignore[no-untyped-call]
    places = {"metadata": {"path": str(open_folder(folder, "notebook"))}}
    client = nbclient.NotebookClient(notebook, timeout=PATIENCE, resources=places)
    client.execute(env=environment())
    return notebook.cells[0]


def read_output(output: Mapping[str, object]) -> str:
    """Return the text of a cell's output."""
    data = output.get("data", {})
    assert isinstance(data, Mapping)
    picture = "[a picture]" if "image/png" in data else ""
    return str(picture or output.get("text") or data.get("text/plain", "")).rstrip("\n")


def write_page(captures: Mapping[Screen, str]) -> str:
    """Return the page, with the end of each terminal."""
    parts = [INTRODUCTION]
    for screen, text in captures.items():
        first, *rest = text.rstrip().splitlines()
        block = "\n".join([first, *rest[1 - MOST :]])
        parts.append(f"## {screen.family}\n\n```text\n{block}\n```\n")
    return "\n".join(parts)


def draw_terminal(text: str) -> str:
    """Return the text of a terminal as HTML."""
    lines = html.escape(text.rstrip("\n"))
    return f'<pre style="{STYLE};background:#16181d;color:#e6e6e6;margin-bottom:8px">{lines}</pre>'


def draw_cell(cell: nbformat.NotebookNode) -> str:
    """Return a cell and its outputs as HTML."""
    parts = [f'<pre style="{STYLE};background:#f3f4f6">{html.escape(cell.source)}</pre>']
    for output in cell.outputs:
        picture = output.get("data", {}).get("image/png")
        if picture:
            parts.append(f'<img style="margin:8px 14px" src="data:image/png;base64,{picture}">')
        else:
            text = html.escape(read_output(output))
            parts.append(f'<pre style="{STYLE};padding:3px 14px">{text}</pre>')
    return "".join(parts)


def take_picture(path: Path, body: str) -> None:
    """Render HTML as a PNG file that is as high as its content."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 730, "height": 100})
        page.set_content(f'<body style="margin:0;background:white">{body}</body>')
        page.screenshot(path=str(path), full_page=True)
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
