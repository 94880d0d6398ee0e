"""Scores and categories: what functions, rules and classifiers say of records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from genjax.errors import UserError
from genjax.families.rewards import score_texts
from genjax.runs.rewards import Reward, RunReward
from genjax.store.conversation import read_branches
from genjax.store.filters import All, Compare, Filter
from genjax.store.limits import check_text
from genjax.store.query import Query
from genjax.store.records import Feedback, Record, Response, Wanted
from genjax.store.rows import load, split
from genjax.store.store import PAGE, Store, find_ids

Classifier = Callable[[Sequence[str]], Sequence[str]]


def score(
    store: Store,
    name: str,
    reward: Reward,
    filter: Filter | str = All(()),
    *,
    origin: Wanted = "real",
    source_id: str | None = None,
) -> int:
    """Score responses by a reward, as feedback of kind CODE; returns how many.

    Args:
      name: of the score.
      reward: see ``genjax.runs.rewards``.
      filter: of the responses; those that have a score of this name and source keep it.
      origin: of the responses.
      source_id: that names the function; its own name by default.

    Raises:
      UserError: the function fails; what was scored before stays.
    """
    source = source_id or _name(reward)
    check_text(name, "name", store.limits.name)
    with store.reading() as connection:
        ids = find_ids(connection, Query(filter, "response", origin), None)
    count = 0
    for part in split(ids):
        fresh = [one for one in part if not _is_scored(store, one, name, source)]
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
                source_kind="CODE",
                source_id=source,
            )
            for answer, value in zip(answers, np.asarray(values), strict=True)
        ]
        count += len(store.add(*judged))
    return count


def _name(reward: Reward) -> str:
    return str(reward.run.run_dir) if isinstance(reward, RunReward) else reward.__name__


def _is_scored(store: Store, one: str, name: str, source: str) -> bool:
    terms = (("target", one), ("name", name), ("source_id", source), ("source_kind", "CODE"))
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
    """Tag records by rules or a classifier; returns how many got a tag that they lacked.

    Args:
      rules: a filter for each tag, or a function from texts to their tags, "" for none.
      filter: of the records.
      kind: of the records.
      origin: of the records.

    Raises:
      UserError: a filter is wrong; then nothing is tagged.
    """
    wanted: dict[str, list[str]] = {}
    with store.reading() as connection:
        ids = find_ids(connection, Query(filter, kind, origin), None)
        if callable(rules):
            for part in split(ids, PAGE):
                records = [r for r in load(connection, part) if _text(r)]
                tags = rules([_text(record) for record in records]) if records else []
                if len(tags) != len(records):
                    raise UserError("rules must give a tag for each text", "rules")
                for record, tag in zip(records, tags, strict=True):
                    wanted.setdefault(record.id, []).extend([tag] if tag else [])
        else:
            chosen = set(ids)
            for tag, rule in rules.items():
                for one in find_ids(connection, Query(rule, kind, origin), None):
                    if one in chosen:
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
