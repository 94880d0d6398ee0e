"""What record linkage says of pairs: the links, those in doubt, and what a person decides."""

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
LEAST = 0.01  # probability of a pair that is worth a row of the links
SAME, OTHER = "same", "different"
WORDS = {
    word: decision
    for decision, words in (
        (True, (SAME, "yes", "y", "1", "true", "match")),
        (False, (OTHER, "no", "n", "0", "false", "other")),
    )
    for word in words
}

Decisions = Mapping[tuple[str, str], bool]  # by the ids of two records in order: whether one


def read_decisions(path: str) -> dict[tuple[str, str], bool]:
    """What a person has decided in a review file; rows without a decision are left out.

    Raises:
      UserError: no such file, a decision that is none, or two that contradict each other; the row
        is named.
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
                f"{where} has the decision {cells[DECISION]!r}: write {SAME!r} or {OTHER!r}, or "
                "leave it empty",
                "decisions",
            )
        left, right = sorted((cells[LEFT], cells[RIGHT]))
        if found.setdefault((left, right), WORDS[word]) != WORDS[word]:
            raise UserError(
                f"{where} contradicts another row about {left} and {right}", "decisions"
            )
    return found


def apply_decisions(
    links: Links, ids: Sequence[str], threshold: float, decisions: Decisions
) -> Links:
    """Links in which decided pairs are one for certain, or are not, not by way of others
    either: where they would be, the least likely links between them go.

    Raises:
      UserError: a decision about no record of the table, or several that contradict each other.
    """
    place = {name: number for number, name in enumerate(ids)}
    decided: dict[tuple[int, int], bool] = {}
    for (a, b), same in decisions.items():
        for name in (a, b):
            if name not in place:
                raise UserError(
                    f"a decision is about {name!r}, which is no record here", "decisions"
                )
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
    """(the links, those to review) as tables: the ids of both records, the probability that they
    are one, in the links whether they are taken for it, in the review the decision and what both
    records hold, the most doubtful first.
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
    """A table as a file that a spreadsheet opens."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table.column_names)
        writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))


def describe_weights(links: Links) -> str:
    """Return the weight of each column, in bits, from disagreement to the best agreement."""
    return "; ".join(
        f"{name} {weights[0]:.1f} to {weights[-1]:.1f}" for name, weights in links.weights.items()
    )
