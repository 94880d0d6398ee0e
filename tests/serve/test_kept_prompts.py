"""Prompts that share a beginning are read in part, and their texts stay as they are."""

import asyncio
import dataclasses
import re

import genjax

SYSTEM = "You answer in one short sentence, and say so if you do not know. " * 2


def count_hits(served):
    said = served.ask("/metrics")[2].decode()
    return float(re.search(r"\ngenjax_prefix_hits (\S+)", said)[1])


def test_chats_that_share_a_system_prompt_read_it_once(client, served, chat_run):
    run = genjax.load(chat_run)
    before, said = count_hits(served), []
    for i in range(5):
        answer = client.chat.completions.create(
            model="chat",
            messages=[{"role": "user", "content": f"{SYSTEM}{i}?"}],
            seed=i,
            max_tokens=20,
        )
        said.append(answer.choices[0].message.content)
    assert count_hits(served) - before == 4
    for i, text in enumerate(said):  # drawn by a loop that keeps no prompts
        sampler = dataclasses.replace(run.family.sampler, prompt=f"{SYSTEM}{i}?", steps=20)
        (row,) = run.sample(1, i, sampler)
        begin = len(run.codec.decode(run.codec.whole_prompt(sampler.prompt)))
        assert text == run.codec.decode(run.codec.until_end(row))[begin:]


def test_many_at_once_that_share_a_prefix_are_drawn_as_alone(served):
    def ask(i):
        body = {"model": "chat", "prompt": f"{SYSTEM[::-1]}{i}", "seed": i, "max_tokens": 12}
        return (
            served.ask("/v1/completions", body)[2].partition(b'"text":')[2].partition(b',"log')[0]
        )

    async def ask_all():
        return await asyncio.gather(*(asyncio.to_thread(ask, i) for i in range(8)))

    ask(100)
    before = count_hits(served)
    together = asyncio.run(ask_all())
    assert count_hits(served) - before == 8
    ask_others = [ask(i) for i in range(8)]
    assert together == ask_others and len(set(together)) > 4


def test_a_repetition_penalty_reads_the_whole_prompt(served, client):
    common = {"model": "chat", "prompt": f"{SYSTEM.upper()}?", "seed": 1, "max_tokens": 12}
    before = count_hits(served)
    said = [
        client.completions.create(**common, extra_body={"repetition_penalty": 1.5}).choices[0].text
        for _ in range(2)
    ]
    assert said[0] == said[1] and count_hits(served) == before
