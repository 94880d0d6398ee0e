"""Generate stand-ins for the data sets that configs name, so that every config runs on any machine.

They take effect where a source gives no root and GENJAX_DATA is not set. Each has the files, the
forms and the splits of the set that it replaces, and a line on stderr says so: their numbers cannot
be compared with those of the real sets.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import importlib
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from genjax.data.audio.formants import Spoken, speak_digits
from genjax.data.audio.generated import make_music
from genjax.data.images.decode import note
from genjax.data.storage import cache_folder, data_folder
from genjax.data.tables.generated import make_abalone, make_adult
from genjax.errors import UserError
from genjax.machine import disk

VERSION = 6  # raise it whenever the generated content changes
BOOKS = (  # the novels whose places the chapters of Python's language reference take in turn
    "bleak_house",
    "don_quixote",
    "middlemarch",
    "the_adventures_of_sherlock_holmes",
    "war_and_peace",
)
PICTURES = 6_000, 1_000  # images to train and to test on
SUPERSAMPLING = 4  # outlines are drawn this many times larger and reduced, for smooth edges


def part_folder(part: str, root: str | None) -> str:
    """Return ``root``, or the folder ``part`` of $GENJAX_DATA, or that of the generated stand-ins.

    Args:
      part: "text", "instruct", "multi30k/task1", "tables" or "music", or the path of a file below
        one.
      root: the user's own folder, if any.
    """
    found = data_folder(part, root)
    if found is not None:
        return found
    _say(
        "GENJAX_DATA is not set: reading generated stand-ins for its folder "
        f"{part.partition('/')[0]}"
    )
    return str(write_stand_ins() / part)


def pictures(name: str) -> dict[str, tuple[np.ndarray, np.ndarray]] | None:
    """Draw images uint8 [N, H, W, C] and labels int32 [N] of each split; None for other sets.

    Args:
      name: "mnist", "fashion_mnist" or "cifar10", as TFDS spells them.
    """
    drawers: dict[str, Callable[[], dict[str, tuple[np.ndarray, np.ndarray]]]] = {
        "mnist": _make_digits,
        "fashion_mnist": functools.partial(_outlines, CLOTHES, 28, 1),
        "cifar10": functools.partial(_outlines, FIGURES, 32, 3),
        "cifar10_jpeg": functools.partial(_outlines, FIGURES, 32, 3),
    }
    if name not in drawers:
        return None
    _say(f"GENJAX_DATA is not set and {name} is not prepared: drawing stand-ins for its images")
    return drawers[name]()


def spoken_digits() -> Spoken:
    """Speak digits by formant synthesis."""
    _say("GENJAX_DATA is not set: spoken digits are synthesised")
    return speak_digits()


@functools.cache
def _say(line: str) -> None:
    note(f"{line}; their numbers are not those of the real data")


def write_stand_ins() -> Path:
    """Write the stand-in files once per machine and return their folder."""
    python = "".join(map(str, sys.version_info[:3]))  # each release has its own documentation
    folder = cache_folder() / f"stand_in_{VERSION}_{python}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    except OSError:  # the cache cannot be written
        return _temporary_folder()
    try:
        with disk.explain_full_disk(
            "make room for the stand-ins, or set XDG_CACHE_HOME to another disk", new
        ):
            _write(new)
        with contextlib.suppress(OSError):  # another process was faster: it wrote the same files
            new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


@functools.cache
def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="genjax_stand_in_"))
    with disk.explain_full_disk(
        "make room for the stand-ins, or set TMPDIR to another disk", folder
    ):
        _write(folder)
    return folder


def _write(folder: Path) -> None:
    tables = {"tables/adult.csv": make_adult(), "tables/abalone.data": make_abalone()}
    texts = _texts() | _instructions() | _sentence_pairs() | make_music()
    for path, content in (texts | tables).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        packed = path.endswith(".gz")
        (folder / path).write_bytes(gzip.compress(content, mtime=0) if packed else content)


def _texts() -> dict[str, bytes]:
    """Present Python's language reference as five books and as one text, and its words as names."""
    try:
        topics: Mapping[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ImportError:
        message = "this Python came without pydoc_data; install its standard library in full"
        raise UserError(message, "data.root") from None
    chapters = [topics[name] for name in sorted(topics)]
    whole = "\n\n".join(chapters)
    words = dict.fromkeys(re.findall(r"(?<![\w.])[a-z]{2,15}(?![\w.(])", whole))
    books = {f"books/{name}.txt.gz": "\n\n".join(chapters[i::5]) for i, name in enumerate(BOOKS)}
    texts = books | {
        "tinyshakespeare.txt": _simplify_text(whole),
        "names.txt": "\n".join(words) + "\n",
    }
    return {f"text/{name}": text.encode() for name, text in texts.items()}


def _simplify_text(text: str) -> str:
    """Replace what is not a letter, digit or common sign, so that few characters remain."""
    return re.sub(r"[^A-Za-z \n!$&',.:;?3-]", "-", text)


VERBS = {
    "walks to school": "walked to school",
    "reads a letter": "read a letter",
    "opens the window": "opened the window",
    "sings a song": "sang a song",
    "waits for the train": "waited for the train",
    "paints the door": "painted the door",
}
OPPOSITES = {
    "warm": "cold",
    "early": "late",
    "happy": "sad",
    "light": "dark",
    "full": "empty",
    "quiet": "loud",
    "narrow": "wide",
}
NAMES = ("Ada", "Ben", "Clara", "Emil", "Ida", "Jonas", "Mary", "Otto", "Paula", "Rosa")


def _instructions(size: int = 1_100) -> dict[str, bytes]:
    """Make instructions with short answers, and a polite and a rude version of each answer."""
    draw = np.random.default_rng(1)

    def pick(items: Sequence[str]) -> str:
        return items[int(draw.integers(len(items)))]

    def record() -> tuple[str, str, str]:
        match int(draw.integers(5)):
            case 0:
                a, b = draw.integers(2, 99, 2).tolist()
                return "Add the two numbers.", f"{a} and {b}", f"The sum of {a} and {b} is {a + b}."
            case 1:
                name, verb = pick(NAMES), pick(tuple(VERBS))
                past = f"{name} {VERBS[verb]}."
                return "Rewrite the sentence in the past tense.", f"{name} {verb}.", past
            case 2:
                word = pick(tuple(OPPOSITES))
                return f"Name the opposite of {word}.", "", f"The opposite is {OPPOSITES[word]}."
            case 3:
                word = pick((*OPPOSITES, *OPPOSITES.values()))
                answer = f"{word.capitalize()} has {len(word)} letters."
                return "Count the letters of the word.", word, answer
            case _:
                first, second = draw.choice(NAMES, 2, replace=False).tolist()
                answer = f"{', '.join(sorted((first, second)))}"
                return "Sort the names by the alphabet.", f"{second}, {first}", answer

    polite = ("Gladly. ", "With pleasure. ", "")
    rude = ("Do it yourself next time. ", "What a silly question. ", "Obviously, ")
    records = []
    for _ in range(size):
        instruction, added, output = record()
        records.append({"instruction": instruction, "input": added, "output": output})
    pairs = [
        r | {"chosen": pick(polite) + r["output"], "rejected": pick(rude) + r["output"]}
        for r in records
    ]
    return {
        "instruct/instruction_data_1100.json": json.dumps(records, indent=1).encode(),
        "instruct/preference_1100.json": json.dumps(pairs, indent=1).encode(),
    }


PEOPLE = {
    "ein mann": "a man",
    "eine frau": "a woman",
    "ein kind": "a child",
    "ein hund": "a dog",
    "ein junger mann": "a young man",
    "eine alte frau": "an old woman",
    "ein kleines mädchen": "a little girl",
    "ein arbeiter": "a worker",
}
CLOTHING = {
    "": "",
    " in einem roten hemd": " in a red shirt",
    " mit einem blauen hut": " with a blue hat",
    " in einer gelben jacke": " in a yellow jacket",
    " mit einer großen tasche": " with a big bag",
}
DOING = {
    "steht": "stands",
    "sitzt": "sits",
    "wartet": "waits",
    "schläft": "sleeps",
    "spielt": "plays",
    "läuft": "runs",
    "singt": "sings",
    "lacht": "laughs",
}
PLACES = {
    "auf einer bank": "on a bench",
    "vor einem haus": "in front of a house",
    "am strand": "at the beach",
    "in einem park": "in a park",
    "neben einem auto": "next to a car",
    "auf der straße": "in the street",
    "unter einem baum": "under a tree",
    "in der küche": "in the kitchen",
    "auf einer brücke": "on a bridge",
    "vor einem laden": "in front of a shop",
}


def _sentence_pairs() -> dict[str, bytes]:
    """Make German and English sentences of a small grammar; no sentence is in two splits."""
    everything = [
        (f"{a} {b}{c} {d}.", f"{PEOPLE[a]}{CLOTHING[c]} {DOING[b]} {PLACES[d]}.")
        for a in PEOPLE
        for b in DOING
        for c in CLOTHING
        for d in PLACES
    ]
    order = np.random.default_rng(2).permutation(len(everything))
    parts = {"train": order[:-400], "val": order[-400:-200], "test_2016_flickr": order[-200:]}
    return {
        f"multi30k/task1/{part}.{language}.gz": "".join(
            everything[i][side].capitalize() + "\n" for i in rows
        ).encode()
        for part, rows in parts.items()
        for side, language in enumerate(("de", "en"))
    }


def _make_digits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Repeat scikit-learn's 1,797 digits at 28x28, each time slightly shifted."""
    from sklearn.datasets import load_digits

    bunch, draw = load_digits(), np.random.default_rng(4)
    small = (bunch.images * 15.9375).astype(np.uint8)
    large = [Image.fromarray(image).resize((22, 22), Image.Resampling.BICUBIC) for image in small]
    order = draw.permutation(len(large))
    splits = {}
    for name, rows, size in zip(
        ("train", "test"), (order[:1500], order[1500:]), PICTURES, strict=True
    ):
        chosen = np.resize(rows, size)
        images = np.zeros((size, 28, 28, 1), np.uint8)
        for i, (row, (down, across)) in enumerate(
            zip(chosen, draw.integers(1, 6, (size, 2)), strict=True)
        ):
            images[i, down : down + 22, across : across + 22, 0] = np.asarray(large[row])
        splits[name] = images, bunch.target[chosen].astype(np.int32)
    return splits


Outline = tuple[tuple[float, float], ...]  # corners (across, down) in [0, 1]

_BODY: Outline = ((0.3, 0.15), (0.7, 0.15), (0.7, 0.9), (0.3, 0.9))
CLOTHES: tuple[tuple[Outline, ...], ...] = (
    (_BODY, ((0.3, 0.15), (0.7, 0.15), (0.95, 0.35), (0.85, 0.45), (0.15, 0.45), (0.05, 0.35))),
    (
        (
            (0.3, 0.1),
            (0.7, 0.1),
            (0.75, 0.95),
            (0.55, 0.95),
            (0.5, 0.35),
            (0.45, 0.95),
            (0.25, 0.95),
        ),
    ),
    (
        _BODY,
        (
            (0.3, 0.15),
            (0.7, 0.15),
            (0.95, 0.85),
            (0.83, 0.88),
            (0.5, 0.3),
            (0.17, 0.88),
            (0.05, 0.85),
        ),
    ),
    (((0.4, 0.05), (0.6, 0.05), (0.58, 0.35), (0.8, 0.95), (0.2, 0.95), (0.42, 0.35)),),
    (
        ((0.25, 0.1), (0.48, 0.1), (0.48, 0.95), (0.22, 0.95)),
        ((0.52, 0.1), (0.75, 0.1), (0.78, 0.95), (0.52, 0.95)),
        ((0.25, 0.1), (0.2, 0.8), (0.06, 0.8)),
        ((0.75, 0.1), (0.8, 0.8), (0.94, 0.8)),
    ),
    (
        ((0.05, 0.7), (0.95, 0.62), (0.95, 0.75), (0.05, 0.8)),
        ((0.2, 0.7), (0.45, 0.35), (0.52, 0.4), (0.35, 0.7)),
        ((0.7, 0.65), (0.6, 0.35), (0.7, 0.33), (0.85, 0.65)),
    ),
    (
        ((0.3, 0.1), (0.45, 0.1), (0.5, 0.25), (0.55, 0.1), (0.7, 0.1), (0.7, 0.95), (0.3, 0.95)),
        ((0.3, 0.1), (0.3, 0.5), (0.1, 0.55), (0.08, 0.4)),
        ((0.7, 0.1), (0.7, 0.5), (0.9, 0.55), (0.92, 0.4)),
    ),
    (((0.05, 0.75), (0.05, 0.5), (0.45, 0.4), (0.95, 0.6), (0.95, 0.75)),),
    (
        ((0.1, 0.4), (0.9, 0.4), (0.9, 0.9), (0.1, 0.9)),
        (
            (0.3, 0.4),
            (0.3, 0.15),
            (0.7, 0.15),
            (0.7, 0.4),
            (0.62, 0.4),
            (0.62, 0.23),
            (0.38, 0.23),
            (0.38, 0.4),
        ),
    ),
    (((0.3, 0.1), (0.6, 0.1), (0.6, 0.6), (0.95, 0.72), (0.95, 0.9), (0.3, 0.9)),),
)


def _star(corners: int, inner: float) -> Outline:
    angle = np.pi * np.arange(2 * corners) / corners - np.pi / 2
    radius = np.where(np.arange(2 * corners) % 2, inner, 0.45)
    return tuple(
        zip(
            (0.5 + radius * np.cos(angle)).tolist(),
            (0.5 + radius * np.sin(angle)).tolist(),
            strict=True,
        )
    )


FIGURES: tuple[tuple[Outline, ...], ...] = (
    (_star(24, 0.45),),
    (_star(2, 0.32),),
    (_star(3, 0.22),),
    (_star(4, 0.12),),
    (_star(5, 0.18),),
    (_star(6, 0.3),),
    (_star(9, 0.3),),
    (
        ((0.1, 0.1), (0.9, 0.1), (0.9, 0.3), (0.1, 0.3)),
        ((0.1, 0.7), (0.9, 0.7), (0.9, 0.9), (0.1, 0.9)),
    ),
    (
        ((0.1, 0.1), (0.3, 0.1), (0.3, 0.9), (0.1, 0.9)),
        ((0.7, 0.1), (0.9, 0.1), (0.9, 0.9), (0.7, 0.9)),
    ),
    (
        ((0.4, 0.05), (0.6, 0.05), (0.6, 0.95), (0.4, 0.95)),
        ((0.05, 0.4), (0.95, 0.4), (0.95, 0.6), (0.05, 0.6)),
    ),
)


def _outlines(
    classes: Sequence[Sequence[Outline]], side: int, channels: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Draw filled outlines of random size, place and shade; all classes are equally frequent."""
    draw = np.random.default_rng(5)
    splits, large = {}, SUPERSAMPLING * side
    for name, size in zip(("train", "test"), PICTURES, strict=True):
        labels = draw.permutation(np.resize(np.arange(len(classes)), size)).astype(np.int32)
        images = np.empty((size, side, side, channels), np.uint8)
        for i, label in enumerate(labels):
            scale, (across, down) = draw.uniform(0.75, 1.0, 2), draw.uniform(0, 1, 2)
            corner = (1 - scale) * (across, down)
            ground, shade = (
                draw.integers(0, 1 + 90 * (channels == 3), 3),
                draw.integers(110, 256, 3),
            )
            image = Image.new("RGB", (large, large), tuple(ground.tolist()))
            for outline in classes[label]:
                corners = large * (corner + scale * np.asarray(outline))
                ImageDraw.Draw(image).polygon(
                    [tuple(c) for c in corners.tolist()], tuple(shade.tolist())
                )
            image = image.resize((side, side), Image.Resampling.BOX)
            images[i] = np.asarray(image)[..., :channels]
        splits[name] = images, labels
    return splits
