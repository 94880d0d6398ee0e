"""Split conversations that were written as one text: "Human: … Assistant: …"."""

from __future__ import annotations

import re

from genjax.data.chat.turns import Turn

ASKS, ANSWERS = ("Human", "User"), ("Assistant",)
NAMES = "|".join((*ASKS, *ANSWERS))
# What precedes a name: a special mark, an empty line as in Anthropic's format, or a new line. The
# first of these that a text uses counts, so that "Human:" within an answer stays part of it.
FORMS = tuple(
    re.compile(rf"(?:\A\s*{mark}|{before}{mark})({NAMES})[ \t]*:")
    for before, mark in ((r"\s*", r"\#{2,3}[ ]?"), (r"\n[ \t]*\n\s*", ""), (r"\n[ \t]*", ""))
)


def split_dialogue(text: str, user: str, assistant: str) -> tuple[Turn, ...] | None:
    """Return the turns of a text that begins with a name and has both sides; None for other texts.

    Blanks around each turn are removed. An empty last turn of the assistant, as at the end of a
    prompt, is left out.

    Args:
      text: the text to split.
      user: role of the side that asks.
      assistant: role of the side that answers.
    """
    for form in FORMS:
        found = list(form.finditer(text))
        names = [match[1] for match in found]
        if not found or found[0].start() or not {names[0]} <= {*ASKS, *ANSWERS}:
            continue
        if not set(names) & set(ASKS) or not set(names) & set(ANSWERS):
            continue
        ends = [*(match.start() for match in found[1:]), len(text)]
        turns = [
            Turn(user if match[1] in ASKS else assistant, text[match.end() : end].strip())
            for match, end in zip(found, ends, strict=True)
        ]
        if turns[-1] == Turn(assistant, ""):
            del turns[-1]
        return tuple(turns)
    return None
