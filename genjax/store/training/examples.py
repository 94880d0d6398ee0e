"""Make a small store of generated records, for configs and first steps without your own data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from genjax import checks
from genjax.data.sources.preferences import Preference, RulePreferences, rule_reward
from genjax.store.records import UNKNOWN, Feedback, Payload, Prompt, Record, Response

SCORE = "positivity"
# Raters who prefer by the rule, each with errors on different pairs.
RATERS = ("ann", "bob", "eve")
# A rater is wrong about one in this many pairs.
WRONG = 7


@checks.frozen
class RuleTalk:
    """Fills a store with the prompts and responses of ``RulePreferences``.

    Each response has a score ``positivity`` of kind CODE, its reward by the rule. Three synthetic
    raters each prefer one response of every pair, and each rater is wrong about every seventh pair.

    Attributes:
      size: the number of pairs.
      seed: the seed of the pairs.
    """

    size: int = 1_000
    seed: int = 0

    def __post_init__(self) -> None:
        # This checks the size.
        RulePreferences(self.size, 1, self.seed)

    def __call__(self, url: str) -> None:
        """Make the store at a path or URL, or complete one whose writing was interrupted.

        Raises:
          UserError: the store cannot be written to, or holds other records.
        """
        from genjax.store.access.entering import open_as

        with open_as(url, create=True) as store:
            if store.count(origin="any"):
                return
            records: list[Record] = []
            pairs = RulePreferences(self.size, 1, self.seed).make_examples("train")
            for number, pair in enumerate(pairs):
                records += _make_records(f"{self.seed}\n{number}", number, pair)
            store.add_new(records)  # all or nothing


def _make_records(name: str, number: int, pair: Preference) -> Iterator[Record]:
    """Yield a prompt, both responses with their scores, and the votes of three raters."""
    asked = _name(f"{name}\nprompt")
    yield Prompt(id=asked, origin="real", role="user", payload=Payload(text=pair.prompt))
    ids = [_name(f"{name}\n{side}") for side in ("chosen", "rejected")]
    for one, text in zip(ids, (pair.chosen, pair.rejected), strict=True):
        said = Payload(text=text)
        yield Response(id=one, origin="synthetic", generator=UNKNOWN, prompt=asked, payload=said)
        yield Feedback(
            id=_name(f"{one}\n{SCORE}"),
            origin="real",
            target=one,
            name=SCORE,
            value=float(rule_reward(text)),
            source_kind="CODE",
            source_id=SCORE,
        )
    for place, rater in enumerate(RATERS):
        wrong = (number + place) % WRONG == 0
        target, against = reversed(ids) if wrong else ids
        yield Feedback(
            id=_name(f"{name}\n{rater}"),
            origin="synthetic",
            generator=UNKNOWN,
            target=target,
            against=against,
            name="preference",
            value=1.0,
            source_kind="CODE",
            source_id=rater,
            metadata={"position": ("first", "second")[(number + place + wrong) % 2]},
        )


def _name(content: str) -> str:
    """Return an id derived from the content."""
    digest = hashlib.sha256(f"talk\n{content}".encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"
