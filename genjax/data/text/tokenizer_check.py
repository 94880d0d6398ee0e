"""Try a tokenizer of unknown origin in a child process with limits on time and memory.

The library's patterns can backtrack forever, its replacements can multiply a text, and unexpected
input ends in a Rust panic that writes pages to standard error. In a child process each of these
becomes one line. A tokenizer that has passed is remembered by its checksum.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from genjax.errors import UserError
from genjax.serial import trust

LARGEST = 256 * 2**20  # bytes of the file; those of the largest models have 40 MB
MOST_ADDED = 20_000  # added tokens; the library takes minutes for a million, models have hundreds
HIGHEST = 10_000_000  # highest id; tables have a row for each id up to it
SECONDS = 20.0
MEMORY = 4 * 2**30  # bytes, plus 100 for each byte of the file
LETTERS = "aA0 \n.\u00e9\u4e2d"  # one character of each kind
TRY = """
import json, sys
try:
    import resource
    room = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
except (ImportError, ValueError, OSError):
    pass
sys.path[:] = json.loads(sys.argv[2])
given = json.loads(sys.stdin.buffer.read())
try:
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_str(given["text"])
    for text in given["texts"]:
        try:
            tokenizer.decode(tokenizer.encode(text).ids)
        except Exception:
            pass  # a text that the vocabulary cannot spell
except BaseException as error:
    print((str(error).splitlines() or [type(error).__name__])[0][:300])
    sys.exit(1)
print("passed")
"""


def check(text: str, where: str) -> None:
    """Refuse the JSON of a tokenizer that cannot be loaded and used within the limits.

    Args:
      text: content of a tokenizer.json.
      where: name of the file, for messages and the ``field`` of errors.

    Raises:
      UserError: the tokenizer is damaged, too large or too slow, or makes the library panic.
    """
    entry = entry_of(text)
    if trust.is_known(entry):
        return
    if len(text) > LARGEST:
        raise UserError(f"{where} must have <= {LARGEST:,} bytes, got {len(text):,}", where)
    try:
        stored = json.loads(text)
        added = stored.get("added_tokens") or []
        tried = list(_texts(stored))
    except (ValueError, AttributeError, RecursionError) as error:
        raise _refused(where, f"{error or 'it is nested too deeply'}") from None
    if len(added) > MOST_ADDED:
        raise UserError(
            f"{where}: added_tokens must be <= {MOST_ADDED:,}, got {len(added):,}", where
        )
    if (highest := _highest(stored)) > HIGHEST:
        raise UserError(
            f"{where}: the id of a token must be <= {HIGHEST:,}, got {highest:,}", where
        )
    here = os.path.realpath(os.curdir)
    paths = [path for path in sys.path if path and os.path.realpath(path) != here]
    room = MEMORY + 100 * len(text)
    command = [sys.executable, "-I", "-S", "-c", TRY, str(room), json.dumps(paths)]
    calm = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "RUST_BACKTRACE": "0"}
    try:
        found = subprocess.run(
            command,
            input=json.dumps({"text": text, "texts": tried}).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | calm | {"OPENBLAS_NUM_THREADS": "1"},
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise _refused(where, f"short texts take it more than {SECONDS:.0f} s") from None
    said = found.stdout.decode(errors="replace").strip()
    if found.returncode or said != "passed":
        raise _refused(
            where,
            said or f"it takes more than {room / 2**30:.0f} GB of memory, or crashes",
        )
    trust.remember([entry], quietly=True)


def entry_of(text: str) -> str:
    """Return the name under which a tokenizer is recorded as trusted."""
    return f"tokenizer {hashlib.sha256(text.encode()).hexdigest()}"


def _texts(stored: dict[str, Any]) -> Iterator[str]:
    """Yield short texts on which the patterns of a tokenizer are likely to be slow: repetitions of
    their letters.
    """
    patterns = json.dumps(
        [stored.get("normalizer"), stored.get("pre_tokenizer")], ensure_ascii=False
    )
    letters = dict.fromkeys(LETTERS + "".join(sorted(set(patterns))[:100]))
    yield from ("", *letters, "Hello world, it's 12.5 \U0001f642!\n")
    for letter in letters:
        yield f"{letter * 40}\0!"
    yield "".join(letters) * 20
    yield f"{'a' * 2000}!"


def _highest(stored: dict[str, Any]) -> int:
    """Return the highest token id in a tokenizer."""
    vocabulary = (stored.get("model") or {}).get("vocab")
    named = list(vocabulary.values()) if isinstance(vocabulary, dict) else []
    named += [
        token.get("id") for token in stored.get("added_tokens") or [] if isinstance(token, dict)
    ]
    return max((one for one in named if isinstance(one, int)), default=0)


def _refused(where: str, reason: str) -> UserError:
    return UserError(f"{where} is not a usable tokenizer.json: {reason}", where)
