"""Measure whether raters agree, and whether preferences follow length or position.

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

# The metadata keys of a preference: the position of the chosen response, or the id at each side.
POSITION, LEFT, RIGHT = "position", "left", "right"
FIRST, SECOND = "first", "second"
# The label of a rater who prefers neither response.
TIE = "tie"
# The half-width of a 95 % interval, in standard deviations.
Z = 1.96
Value = str | float
# The ratings of each rater, by rater and then by record.
Ratings = Mapping[str, Mapping[str, Value]]


@dataclass(frozen=True)
class Vote:
    """A rater's choice between two responses.

    Attributes:
      rater: the user, function or run.
      kind: the kind of rater.
      chosen: the id of the preferred response.
      rejected: the id of the other response.
      position: where the chosen response was shown, "first" or "second"; None if unknown.
    """

    rater: str
    kind: SourceKind
    chosen: str
    rejected: str
    position: str | None = None

    @property
    def pair(self) -> tuple[str, str]:
        """Return the ids of both responses, in the same order whichever was chosen."""
        low, high = sorted((self.chosen, self.rejected))
        return low, high


def read_vote(judged: Feedback) -> Vote | None:
    """Return the vote of a preference; None for other feedback or one that no longer counts."""
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
    """Return the chosen and the rejected response of a pair by majority; None for a tie.

    If people voted, only their votes count; otherwise those of models and functions do.
    """
    people = [vote for vote in votes if vote.kind == "HUMAN"]
    latest = {vote.rater: vote for vote in people or votes}  # the last word of each rater counts
    counted = Counter((vote.chosen, vote.rejected) for vote in latest.values())
    (best, most), *others = counted.most_common()
    return None if others and others[0][1] == most else best


def cohen_kappa(a: Sequence[Value], b: Sequence[Value]) -> float:
    """Return Cohen's kappa of two raters' labels for the same records, of shape (N,).

    The result is NaN if chance alone would make them always agree.
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
    """Return Krippendorff's alpha of any number of raters, who need not rate every record.

    The result is NaN if no record has two ratings, or all ratings are the same.

    Args:
      level: "nominal" for labels, "interval" for numbers.
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
    """Describe preferences before training on them, in one line for each fact.

    Args:
      lengths: the number of characters of each response, by id.
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
    """Return one line on how far raters agree on labels or numbers.

    Two raters of labels are compared by Cohen's kappa, all others by Krippendorff's alpha.
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
    """Describe a store's preferences, and the agreement on each name of scores and labels.

    Args:
      filter: a filter on the feedback.
      origin: the origin of the responses.
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
    """Return the number of characters of those responses that have an origin, by id."""
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
