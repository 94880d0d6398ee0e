"""Whether raters agree, and what else preferences follow: length, and the place on the screen.

Cohen, "A coefficient of agreement for nominal scales", 1960; Krippendorff, "Computing
Krippendorff's alpha-reliability", 2011.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from genjax.evaluation.images.bias import wilson
from genjax.store.filters import All, Filter
from genjax.store.records import Feedback, Payload, Record, Response, SourceKind, Wanted
from genjax.store.rows import load, split
from genjax.store.store import Store

# In the metadata of a preference: where the chosen response was shown, or which response was where.
POSITION, LEFT, RIGHT = "position", "left", "right"
FIRST, SECOND = "first", "second"
TIE = "tie"  # the label of who prefers neither
Z = 1.96  # standard deviations on either side of an interval of 95 %
Value = str | float
Ratings = Mapping[str, Mapping[str, Value]]  # of each rater, by rater, of each record


@dataclass(frozen=True)
class Vote:
    """Which of two responses someone prefers.

    Attributes:
      rater: the user, or the function or run.
      kind: of the rater.
      chosen: the id of the better response.
      rejected: that of the other.
      position: where the chosen one was shown, "first" or "second"; None if that is not known.
    """

    rater: str
    kind: SourceKind
    chosen: str
    rejected: str
    position: str | None = None

    @property
    def pair(self) -> tuple[str, str]:
        """Both responses, the same whoever is chosen."""
        low, high = sorted((self.chosen, self.rejected))
        return low, high


def read_vote(judged: Feedback) -> Vote | None:
    """Return the vote of a preference; None of other feedback, or where it no longer counts."""
    if judged.against in (None, judged.target) or not judged.valid:
        return None
    rater = judged.user or judged.source_id or judged.source_kind
    place = _find_position(judged)
    return Vote(rater, judged.source_kind, judged.target, str(judged.against), place)


def _find_position(judged: Feedback) -> str | None:
    position = judged.metadata.get(POSITION)
    if position in (FIRST, SECOND):
        return str(position)
    for side, place in ((LEFT, FIRST), (RIGHT, SECOND)):
        if judged.metadata.get(side) == judged.target:
            return place
    return None


def decide(votes: Sequence[Vote]) -> tuple[str, str] | None:
    """Return the chosen and the rejected response of votes on one pair: by the majority of people
    where people voted, else of models and functions; None of a tie.
    """
    people = [vote for vote in votes if vote.kind == "HUMAN"]
    latest = {vote.rater: vote for vote in people or votes}  # the last word of each rater counts
    counted = Counter((vote.chosen, vote.rejected) for vote in latest.values())
    (best, most), *others = counted.most_common()
    return None if others and others[0][1] == most else best


def cohen_kappa(a: Sequence[Value], b: Sequence[Value]) -> float:
    """Cohen's kappa of two raters' words on the same records [N]; NaN where chance alone makes them
    agree always.
    """
    total = len(a)
    if not total:
        return math.nan
    same = sum(x == y for x, y in zip(a, b, strict=True)) / total
    of_a, of_b = Counter(a), Counter(b)
    chance = sum(count * of_b[word] for word, count in of_a.items()) / total**2
    return math.nan if chance == 1 else (same - chance) / (1 - chance)


def krippendorff_alpha(
    ratings: Ratings, level: Literal["nominal", "interval"] = "nominal"
) -> float:
    """Krippendorff's alpha of any number of raters, who need not have judged all records; NaN where
    no record has two ratings, or all ratings are the same.

    Args:
      level: words, "nominal", or numbers, "interval".
    """
    units: dict[str, list[Value]] = {}
    for of_rater in ratings.values():
        for record, value in of_rater.items():
            units.setdefault(record, []).append(value)
    rated = [values for values in units.values() if len(values) > 1]
    every = list(itertools.chain.from_iterable(rated))
    if not every:
        return math.nan
    measure = _differ if level == "nominal" else _square
    observed = sum(measure(values) / (len(values) - 1) for values in rated) / len(every)
    expected = measure(every) / (len(every) * (len(every) - 1))
    return math.nan if expected == 0 else 1 - observed / expected


def _differ(values: Sequence[Value]) -> float:
    """Return how many ordered pairs of values differ."""
    return float(len(values) ** 2 - sum(count**2 for count in Counter(values).values()))


def _square(values: Sequence[Value]) -> float:
    """Return the sum of squared differences of ordered pairs of values."""
    x = np.asarray(values, np.float64)
    x = x - x.mean()
    return float(2 * len(x) * np.square(x).sum() - 2 * x.sum() ** 2)


def describe_votes(votes: Sequence[Vote], lengths: Mapping[str, int]) -> list[str]:
    """What a person should know of preferences before training on them, a line for each fact.

    Args:
      lengths: characters of each response, by id.
    """
    if not votes:
        return ["there are no preferences"]
    kinds = Counter(kind for _, kind in {(vote.rater, vote.kind) for vote in votes})
    raters = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    pairs = len({vote.pair for vote in votes})
    lines = [f"preferences: {len(votes):,} on {pairs:,} pairs, raters {raters}"]
    ratings: dict[str, dict[str, Value]] = {}
    for vote in votes:
        ratings.setdefault(vote.rater, {})["\n".join(vote.pair)] = vote.chosen == vote.pair[0]
    lines.append(describe_ratings("preferences", ratings))
    longer = [
        lengths[vote.chosen] > lengths[vote.rejected]
        for vote in votes
        if lengths.get(vote.chosen, 0) != lengths.get(vote.rejected, 0)
        and {vote.chosen, vote.rejected} <= lengths.keys()
    ]
    lines.append(f"length: {_describe_share('the longer response is chosen', longer)}")
    placed = [vote.position == FIRST for vote in votes if vote.position is not None]
    where = _describe_share("the response shown first is chosen", placed)
    lines.append(f"position: {where if placed else 'not recorded'}")
    return lines


def describe_ratings(name: str, ratings: Ratings) -> str:
    """Return how far raters agree on words or numbers, in a line.

    Two raters of words are compared by Cohen's kappa; more, and numbers, by Krippendorff's alpha.
    """
    counts = Counter(record for of_rater in ratings.values() for record in of_rater)
    shared = [record for record, count in counts.items() if count > 1]
    if not shared:
        return f"agreement on {name}: no record has two raters"
    on = f"{len(ratings)} raters, {len(shared):,} records of two or more"
    values = [value for of_rater in ratings.values() for value in of_rater.values()]
    words = any(isinstance(value, str | bool) for value in values)
    if words and len(ratings) == 2:
        one, other = ratings.values()
        found, what = cohen_kappa([one[r] for r in shared], [other[r] for r in shared]), "kappa"
        measure = f"Cohen's {what}"
    else:
        found = krippendorff_alpha(ratings, "nominal" if words else "interval")
        measure = "Krippendorff's alpha"
    said = "not defined, all ratings are the same" if math.isnan(found) else f"{found:.3f}"
    return f"agreement on {name}: {measure} {said} ({on})"


def _describe_share(what: str, hits: Sequence[bool]) -> str:
    if not hits:
        return "no two responses differ"
    share, low, high = (float(x) for x in wilson(np.asarray(sum(hits)), len(hits), Z))
    interval = f"{100 * low:.0f} to {100 * high:.0f} %"
    bias = "" if low <= 0.5 <= high else ", a bias"
    return f"{what} in {100 * share:.1f} % of {len(hits):,} (95 % interval {interval}{bias})"


def describe_store(
    store: Store, filter: Filter | str = All(()), origin: Wanted = "any"
) -> list[str]:
    """What ``describe_votes`` and ``describe_ratings`` say of the feedback of a store: of its
    preferences, and of each name of scores and labels.

    Args:
      filter: of the feedback.
      origin: of the responses.
    """
    votes: list[Vote] = []
    ratings: dict[str, dict[str, dict[str, Value]]] = {}
    for one in store.select(filter, kind="feedback", origin="any"):
        if not isinstance(one, Feedback) or not one.valid:
            continue
        rater = one.user or one.source_id or one.source_kind
        if (vote := read_vote(one)) is not None:
            votes.append(vote)
        elif one.label is not None and one.label != TIE:
            ratings.setdefault(f"label {one.name}", {}).setdefault(rater, {})[one.target] = (
                one.label
            )
        elif one.value is not None and one.label != TIE:
            ratings.setdefault(f"score {one.name}", {}).setdefault(rater, {})[one.target] = (
                one.value
            )
    lengths = read_lengths(store, {one for vote in votes for one in vote.pair}, origin)
    votes = [vote for vote in votes if {vote.chosen, vote.rejected} <= lengths.keys()]
    found = describe_votes(votes, lengths)
    return [*found, *(describe_ratings(name, ratings[name]) for name in sorted(ratings))]


def read_lengths(store: Store, ids: Iterable[str], origin: Wanted) -> dict[str, int]:
    """Characters of the responses of these ids that are of an origin."""
    found: list[Record] = []
    with store.reading() as connection:
        for part in split(sorted(ids)):
            found += load(connection, part)
    return {
        one.id: len(_text(one.payload))
        for one in found
        if isinstance(one, Response) and origin in ("any", one.origin)
    }


def _text(payload: Payload) -> str:
    return payload.text or ""
