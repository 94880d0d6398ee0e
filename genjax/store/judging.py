"""Score and categorise records with functions, rules and classifiers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import sqlalchemy as sa

from genjax.errors import UserError
from genjax.families.rewards import score_texts
from genjax.runs.rewards import Reward, RunReward
from genjax.store.conversation import read_branches
from genjax.store.filters import All, Compare, Filter
from genjax.store.formats.reading import PREFERENCE
from genjax.store.limits import check_text
from genjax.store.lookups import find_ids
from genjax.store.query import Query
from genjax.store.records import Feedback, Record, Response, SourceKind, Wanted
from genjax.store.rows import load, split
from genjax.store.store import PAGE, Store

Classifier = Callable[[Sequence[str]], Sequence[str]]


def score(
    store: Store,
    name: str,
    reward: Reward,
    filter: Filter | str = All(()),
    *,
    origin: Wanted = "real",
    source_id: str | None = None,
    fill: bool = False,
) -> int:
    """Score responses with a reward and return how many were scored.

    The scores are feedback of kind MODEL for a reward model and CODE for a function.

    Args:
      name: the name of the score.
      reward: see ``genjax.runs.rewards``.
      filter: a filter on the responses; those already scored under this name by this source are
        skipped.
      origin: the origin of the responses.
      source_id: the name recorded for the function; its own name by default.
      fill: leave out responses that a person has scored under this name.

    Raises:
      UserError: the function fails; earlier scores are kept.
    """
    source = source_id or _name(reward)
    kind: SourceKind = "MODEL" if isinstance(reward, RunReward) else "CODE"
    check_text(name, "name", store.limits.name)
    with store.reading() as connection:
        ids = find_ids(connection, Query(filter, "response", origin), None)
    count = 0
    for part in split(ids):
        fresh = [one for one in part if not _is_scored(store, one, name, kind, source)]
        if fill:
            fresh = [one for one in fresh if not _is_scored(store, one, name, "HUMAN")]
        with store.reading() as connection:
            answers = [r for r in load(connection, fresh) if isinstance(r, Response)]
            branches = read_branches(connection, list({a.prompt for a in answers}))
        answers = [answer for answer in answers if answer.payload.text is not None]
        prompts = [_text(branches[answer.prompt][-1]) for answer in answers]
        texts = [_text(answer) for answer in answers]
        if not answers:
            continue
        if isinstance(reward, RunReward):
            values = reward.score_prompts(prompts, texts)
        else:
            values = score_texts(reward, prompts, texts)
        judged = [
            Feedback(
                origin="real",
                target=answer.id,
                name=name,
                value=float(value) if np.isfinite(value) else None,
                source_kind=kind,
                source_id=source,
            )
            for answer, value in zip(answers, np.asarray(values), strict=True)
        ]
        count += len(store.add(*judged))
    return count


def _name(reward: Reward) -> str:
    return str(reward.run.run_dir) if isinstance(reward, RunReward) else reward.__name__


def prefer(
    store: Store,
    name: str,
    *,
    margin: float = 0.0,
    origin: Wanted = "real",
    fill: bool = False,
) -> int:
    """Prefer the response with the highest score to the one with the lowest, for each prompt.

    The preference is feedback of the kind of the highest score, or CODE if a person gave it.
    Returns the number of new pairs.

    Args:
      name: the name of the score.
      margin: the amount by which the higher score must exceed the lower.
      origin: the origin of the responses.
      fill: leave out prompts for which a person has preferred one response to another.

    Raises:
      UserError: the origin is wrong.
    """
    # The last score of each response.
    scores: dict[str, tuple[float, SourceKind]] = {}
    for one in store.select(Compare("name", "=", name), kind="feedback", origin="any"):
        if isinstance(one, Feedback) and one.valid and one.value is not None and not one.against:
            scores[one.target] = one.value, one.source_kind
    judged: set[str] = set()
    if fill:
        people = store.select("source_kind=HUMAN against!=null", kind="feedback", origin="any")
        judged = {one.target for one in people if isinstance(one, Feedback) and one.valid}
    prompts: dict[str, list[tuple[float, str]]] = {}
    filled: set[str] = set()
    for answer in store.select(kind="response", origin=origin):
        if isinstance(answer, Response):
            filled |= {answer.prompt} if answer.id in judged else set()
            if answer.id in scores:
                prompts.setdefault(answer.prompt, []).append((scores[answer.id][0], answer.id))
    pairs = []
    for prompt, rated in prompts.items():
        (low, worst), (high, best) = min(rated), max(rated)
        if high - low > margin and prompt not in filled:
            kind: SourceKind = "MODEL" if scores[best][1] == "MODEL" else "CODE"
            pairs.append(
                Feedback(
                    id=_name_pair(name, best, worst),
                    origin="real",
                    target=best,
                    against=worst,
                    name=PREFERENCE,
                    value=high - low,
                    source_kind=kind,
                    source_id=name,
                )
            )
    return store.add_new(pairs)


def _name_pair(name: str, best: str, worst: str) -> str:
    digest = hashlib.sha256(f"{name}\n{best}\n{worst}".encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"


def _is_scored(
    store: Store, one: str, name: str, kind: SourceKind, source: str | None = None
) -> bool:
    """Return whether a record has a score with this name, kind and, if given, source."""
    terms = [("target", one), ("name", name), ("source_kind", kind)]
    terms += [] if source is None else [("source_id", source)]
    same = All(tuple(Compare(field, "=", value) for field, value in terms))
    return store.count(same, kind="feedback", origin="any") > 0


def _text(record: Record) -> str:
    payload = getattr(record, "payload", None)
    return (payload.text or "") if payload is not None else ""


def categorise(
    store: Store,
    rules: Mapping[str, Filter | str] | Classifier,
    filter: Filter | str = All(()),
    *,
    kind: str | None = None,
    origin: Wanted = "real",
) -> int:
    """Tag records by rules or a classifier and return how many got a new tag.

    Args:
      rules: a filter for each tag, or a function from texts to their tags ("" for no tag).
      filter: a filter on the records.
      kind: the kind of record; any by default.
      origin: the origin of the records.

    Raises:
      UserError: a filter is invalid; nothing is tagged.
    """
    wanted: dict[str, list[str]] = {}
    with store.reading() as connection:
        ids = find_ids(connection, Query(filter, kind, origin), None)
        if callable(rules):
            found = _classify(connection, ids, rules)
        else:
            chosen = {tag: Query(rule, kind, origin) for tag, rule in rules.items()}
            found = _apply_rules(connection, set(ids), chosen)
        for one, tag in found:
            wanted.setdefault(one, []).append(tag)
    count = 0
    with store.writing() as connection:
        for part in split(sorted(wanted)):
            for record in load(connection, part):
                tags = tuple(dict.fromkeys((*record.tags, *wanted[record.id])))
                if tags != record.tags:
                    store.change(connection, record.id, {"tags": tags})
                    count += 1
    return count


def _classify(
    connection: sa.Connection, ids: Sequence[str], classify: Classifier
) -> Iterator[tuple[str, str]]:
    """Yield the id and tag of each record with text."""
    for part in split(ids, PAGE):
        records = [record for record in load(connection, part) if _text(record)]
        tags = classify([_text(record) for record in records]) if records else []
        if len(tags) != len(records):
            raise UserError("rules must give a tag for each text", "rules")
        yield from ((record.id, tag) for record, tag in zip(records, tags, strict=True) if tag)


def _apply_rules(
    connection: sa.Connection, ids: set[str], rules: Mapping[str, Query]
) -> Iterator[tuple[str, str]]:
    """Yield the id of each record that matches a rule, and the rule's tag."""
    for tag, rule in rules.items():
        yield from ((one, tag) for one in find_ids(connection, rule, None) if one in ids)
