"""Tables of links and of doubtful pairs from record linkage, and decisions by a person."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from genjax.data.text.record_files import read_records
from genjax.errors import UserError
from genjax.prepare.matching.components import choose_links, components
from genjax.prepare.matching.linkage import Links

LEFT, RIGHT, PROBABILITY, DECISION = "left", "right", "probability", "decision"
LEAST = 0.01  # smallest probability of a pair in the table of links
SAME, OTHER = "same", "different"
WORDS = {
    word: decision
    for decision, words in (
        (True, (SAME, "yes", "y", "1", "true", "match")),
        (False, (OTHER, "no", "n", "0", "false", "other")),
    )
    for word in words
}

Decisions = Mapping[tuple[str, str], bool]  # by sorted ids of two records: whether duplicates


def read_decisions(path: str) -> dict[tuple[str, str], bool]:
    """Read the decisions in a review file; rows without a decision are skipped.

    Raises:
      UserError: the file is missing, a decision is invalid, or two contradict each other; the
        message names the row.
    """
    found: dict[tuple[str, str], bool] = {}
    for where, record in read_records(Path(path).expanduser(), Counter()):
        cells = {n: "" if record.get(n) is None else str(record[n]).strip() for n in record}
        missing = [name for name in (LEFT, RIGHT, DECISION) if name not in cells]
        if missing:
            raise UserError(
                f"{where} has no {missing[0]!r}; its fields are {', '.join(cells)}", "decisions"
            )
        word = cells[DECISION].lower()
        if not word:
            continue
        if word not in WORDS:
            raise UserError(
                f"decision of {where} must be {SAME!r}, {OTHER!r} or empty, got "
                f"{cells[DECISION]!r}",
                "decisions",
            )
        for name in (LEFT, RIGHT):
            if not cells[name]:
                raise UserError(
                    f"{where} has a decision, but no {name!r} record: keep the ids of the review",
                    "decisions",
                )
        left, right = sorted((cells[LEFT], cells[RIGHT]))
        if left == right:
            raise UserError(f"{where} compares {left} with itself", "decisions")
        if found.setdefault((left, right), WORDS[word]) != WORDS[word]:
            raise UserError(
                f"{where} contradicts another row about {left} and {right}", "decisions"
            )
    return found


def apply_decisions(
    links: Links, ids: Sequence[str], threshold: float, decisions: Decisions
) -> Links:
    """Return links that respect the decisions: pairs decided to be different are not joined, not
    even through others; the least likely links between them are removed.

    Raises:
      UserError: a decision names an unknown record, or decisions contradict each other.
    """
    place = {name: number for number, name in enumerate(ids)}
    decided: dict[tuple[int, int], bool] = {}
    unknown = sorted({name for pair in decisions for name in pair if name not in place})
    if unknown:
        raise UserError(
            f"decisions must name records of this table, got {unknown[0]!r} and "
            f"{len(unknown) - 1} others: take the review.csv of this preparation",
            "decisions",
        )
    for (a, b), same in decisions.items():
        decided[min(place[a], place[b]), max(place[a], place[b])] = same
    pairs = np.sort(np.stack([links.left, links.right]), axis=0)
    known = {pair: number for number, pair in enumerate(zip(*pairs.tolist(), strict=True))}
    new = [pair for pair in decided if pair not in known]
    left, right = np.concatenate([pairs, np.array(new, np.int64).reshape(-1, 2).T], axis=1)
    probability = np.concatenate([links.probability, np.zeros(len(new))])
    known |= {pair: len(links.left) + number for number, pair in enumerate(new)}
    for pair, same in decided.items():
        probability[known[pair]] = float(same)
    one = choose_links(np.stack([left, right]), probability, threshold)
    one[[known[pair] for pair, same in decided.items() if same]] = True
    apart = [pair for pair, same in decided.items() if not same]
    while True:
        group = components(left[one], right[one], len(ids))
        wrong = next((pair for pair in apart if group[pair[0]] == group[pair[1]]), None)
        if wrong is None:
            break
        inside = np.flatnonzero(one & (group[left] == group[wrong[0]]))
        weakest = inside[probability[inside].argmin()]
        if (left[weakest], right[weakest]) in decided:
            a, b = (ids[number] for number in wrong)
            raise UserError(
                f"{a} and {b} are decided to be different, but other decisions make them one",
                "decisions",
            )
        one[weakest] = False
    return links._replace(group=group, left=left, right=right, probability=probability)


def tabulate(
    links: Links,
    table: pa.Table,
    ids: Sequence[str],
    review: tuple[float, float],
    decisions: Decisions,
) -> tuple[pa.Table, pa.Table]:
    """Return the links, and the pairs to review, as tables.

    Both have the ids of two records and the probability that they are duplicates. The links also
    say whether they count as duplicates; the review, the most doubtful first, has the decision and
    the contents of both records.
    """
    keep = np.flatnonzero(links.probability >= LEAST)
    names = np.array(ids, object)

    def ordered(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        left, right = links.left[rows], links.right[rows]
        swap = names[left] > names[right]
        return np.where(swap, right, left), np.where(swap, left, right)

    left, right = ordered(keep)
    found = pa.table(
        {
            LEFT: pa.array(names[left], pa.large_string()),
            RIGHT: pa.array(names[right], pa.large_string()),
            PROBABILITY: links.probability[keep],
            "linked": links.group[left] == links.group[right],
        }
    ).sort_by([(PROBABILITY, "descending"), (LEFT, "ascending"), (RIGHT, "ascending")])
    decided = {tuple(pair) for pair in decisions}
    low, high = review
    pairs = list(zip(names[links.left], names[links.right], strict=True))
    was = np.array([tuple(sorted(pair)) in decided for pair in pairs], bool)
    band = (links.probability >= low) & (links.probability < high)
    rows = np.flatnonzero(band | was)
    left, right = ordered(rows)
    words = {True: SAME, False: OTHER, None: ""}
    said = [decisions.get((a, b)) for a, b in zip(names[left], names[right], strict=True)]
    columns = {
        LEFT: pa.array(names[left], pa.large_string()),
        RIGHT: pa.array(names[right], pa.large_string()),
        PROBABILITY: np.round(links.probability[rows], 4),
        DECISION: [words[one] for one in said],
    }
    for name in table.column_names:
        texts = [None if v is None else str(v) for v in table[name].to_pylist()]
        for side, which in ((LEFT, left), (RIGHT, right)):
            columns[f"{name} ({side})"] = pa.array([texts[i] for i in which], pa.large_string())
    order = np.lexsort((names[left].astype(str), np.abs(links.probability[rows] - 0.5)))
    return found, pa.table(columns).take(pa.array(order))


def write_csv(table: pa.Table, path: Path) -> None:
    """Write a table as a file for spreadsheets."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table.column_names)
        writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))


def describe_weights(links: Links) -> str:
    """Format the weight of each column in bits, from disagreement to the best agreement."""
    return "; ".join(
        f"{name} {weights[0]:.1f} to {weights[-1]:.1f}" for name, weights in links.weights.items()
    )
