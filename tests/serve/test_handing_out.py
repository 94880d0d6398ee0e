"""Drawn tokens on their way from the device's thread to the event loop."""

import asyncio
import functools
import threading

from genjax.serve.engine import Drawn, Options, Row
from genjax.serve.threads import Mailbox


def test_a_row_hands_out_its_first_and_last_tokens_at_once_and_others_together():
    found = []
    row = Row([], Options(), found.append)
    for i, finish in enumerate([None, None, None, "length"]):
        row.hand_out(Drawn([i], [-0.5 * i], [[(i, 0.0)]], finish), 3600.0)
    first, rest = found
    assert first == Drawn([0], [0.0], [[(0, 0.0)]], None)
    assert rest.tokens == [1, 2, 3] and rest.log_probs == [-0.5, -1.0, -1.5]
    assert rest.tops == [[(1, 0.0)], [(2, 0.0)], [(3, 0.0)]] and rest.finish == "length"
    row = Row([], Options(), found.append)
    for i in range(3):
        row.hand_out(Drawn([i], [0.0], [], None), 0.0)
    assert [one.tokens for one in found[2:]] == [[0], [1], [2]]


def test_a_mailbox_brings_each_call_of_several_threads_once_and_in_order():
    async def collect():
        mailbox, found = Mailbox(), []

        def post(number):
            for i in range(2000):
                mailbox.post(functools.partial(found.append, (number, i)))

        threads = [threading.Thread(target=post, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        while len(found) < 6000:
            await asyncio.sleep(0.001)
        for thread in threads:
            thread.join()
        return mailbox, found

    mailbox, found = asyncio.run(asyncio.wait_for(collect(), 60))
    for number in range(3):
        assert [i for n, i in found if n == number] == list(range(2000))
    mailbox.post(lambda: found.append("late"))  # nobody waits, and nothing breaks
    assert "late" not in found
