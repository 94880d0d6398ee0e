"""Write a question, its answer, its sources and the check of its citations to a store."""

from __future__ import annotations

import dataclasses

from genjax.rag.answers import Answer, Asking
from genjax.rag.generators import Generator
from genjax.store.records import UNKNOWN, Feedback, Payload, Prompt, Record, Relation, Response
from genjax.store.rows import make_ids
from genjax.store.runs import note_run
from genjax.store.store import Store

CITES = "cites"
CHECK = "citations"  # the name of the feedback


def keep_exchange(store: Store, answer: Answer, asking: Asking, generator: Generator) -> Answer:
    """Write an exchange in one transaction and return the answer with the ids of its records.

    The parents of the answer are all passages that the generator saw, and a relation "cites" links
    it to each passage that it cites. The check is feedback of kind CODE with the value 1 for no
    faults and 0 otherwise; its rationale lists the faults and its metadata counts them.
    """
    run = (
        None
        if generator.run is None
        else note_run(store, generator.run.run_dir, generator.run.step)
    )
    prompt_id, response_id = make_ids(2)
    retrieval = dataclasses.asdict(asking.retrieval)
    scores = {p.id: {"score": p.score, "found_by": p.found_by} for p in answer.passages}
    response = Response(
        id=response_id,
        origin="synthetic",
        generator=UNKNOWN if run is None else run.id,
        parents=tuple(dict.fromkeys(p.id for p in answer.passages)),
        prompt=prompt_id,
        payload=Payload(text=answer.text),
        run=None if run is None else run.id,
        step=None if generator.run is None else generator.run.step,
        milliseconds=answer.milliseconds,
        metadata={
            "rag": {
                "prompt": answer.prompt,
                "generator": answer.generator,
                "retrieval": retrieval,
                "sources": scores,
                "known": answer.known,
                "span": answer.span,
                **answer.details,
            }
        },
    )
    records: list[Record] = [
        Prompt(id=prompt_id, origin="real", role="user", payload=Payload(text=answer.question)),
        response,
    ]
    for one in answer.checked.cited:
        records.append(Relation(origin="real", subject=response_id, predicate=CITES, object=one))
    records.append(_judge(answer, response_id))
    store.add(*records)
    return dataclasses.replace(answer, prompt_id=prompt_id, response_id=response_id)


def _judge(answer: Answer, response: str) -> Feedback:
    checked = answer.checked
    said = "; ".join(f"{fault.kind}: {fault.what}" for fault in checked.faults)
    return Feedback(
        origin="real",
        target=response,
        name=CHECK,
        value=0.0 if checked.faults else 1.0,
        source_kind="CODE",
        source_id="genjax.rag.citations",
        label="faulty" if checked.faults else "sound" if answer.known else "unknown",
        rationale=said or None,
        metadata={
            "faults": dict(checked.counts),
            "quotes": checked.quotes,
            "cited": list(checked.cited),
        },
    )
