"""Drift between two windows: false alarms at the stated rate, planted drifts found, bad windows."""

import itertools
import json
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from benchmarks.drift import Corpus, compare_drawn, count_alarms, find_share, make_pool
from genjax import __main__ as command_line
from genjax.errors import UserError
from genjax.store.monitoring.drift import Testing, find_drift
from genjax.store.monitoring.energy import (
    adjust_fdr,
    adjust_holm,
    compare_numbers,
    compare_sets,
    compare_vectors,
    draw_signs,
)
from genjax.store.monitoring.samples import Window, check_apart, read_sample
from genjax.store.monitoring.wording import is_refusal, tell_language
from genjax.store.opening import open_store
from genjax.store.records import Feedback, Payload, Prompt, Response, Run, Session
from tests.store.test_records_contract import (  # noqa: F401  (fixtures)
    make_place,
    server,
    store,
    url,
)
from tests.store.words import Words

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
QUESTIONS = [
    " ".join((ask, noun, where, "?" * (i % 3), "please tell me all of it " * (i % 4)))
    for i, (ask, noun, where) in enumerate(
        itertools.product(
            ("How do I paint", "Where is", "What can I do with", "Write a poem about", "Is there"),
            ("a boat", "the garden", "my old bicycle", "a small dog", "the kitchen", "her piano"),
            ("in winter", "by the sea", "at home", "before noon", "for my friends", "in the rain"),
        )
    )
]
WINGS = [f"boundary layer over wings at mach {i} of the hypersonic flow" for i in range(60)]
GERMAN = [f"Wie kann ich {i} Fragen auf einmal stellen und was wird dann?" for i in range(60)]


@pytest.fixture(scope="module")
def pool():
    return make_pool(Corpus([*QUESTIONS * 3, *GERMAN[:15]], WINGS, GERMAN), Words(dimension=16))


@pytest.mark.long
def test_false_alarms_come_at_the_stated_rate(pool):
    """Of 200 comparisons 5 % are 10; fewer than 1 or more than 24 have a chance of 1 in 10,000."""
    alarms = count_alarms(compare_drawn(pool[0], 160, 200, draws=199))
    assert len(alarms) == 10
    assert all(1 <= 200 * share <= 24 for name, share in alarms.items() if "family" not in name)
    assert 200 * alarms["family, holm"] <= 24 and 200 * alarms["family, fdr"] <= 24


@pytest.mark.parametrize("name", ["subject", "length", "language", "refusals", "categories"])
def test_planted_drift_is_found_by_its_own_test(pool, name):
    plant = pool[1][name]
    assert find_share(compare_drawn(pool[0], 260, 5, plant, draws=499), plant.test) >= 0.8


def measure(x, y):
    """The energy distance of vectors, as it is defined."""

    def mean(a, b):
        return np.mean(np.linalg.norm(a[:, None] - b[None], axis=-1))

    return 2 * mean(x, y) - mean(x, x) - mean(y, y), mean(x, y)


def test_the_energy_distance_is_that_of_its_definition():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((30, 4))
    vectors[20:] += 0.7
    signs = draw_signs(20, 10, 99, rng)
    assert np.allclose(signs.sum(0), 0) and len(np.unique(signs)) == 2
    energy, across = measure(vectors[:20], vectors[20:])
    found = compare_vectors(vectors, signs)
    assert found.coefficient == pytest.approx(energy / (2 * across))
    alone = compare_numbers(vectors[:, 0], signs)
    energy, across = measure(vectors[:20, :1], vectors[20:, :1])
    assert alone.coefficient == pytest.approx(energy / (2 * across))
    assert alone.p == pytest.approx(compare_vectors(vectors[:, :1], signs).p)
    # Of two labels the statistic is that of a chi-squared test: its order of draws is the same.
    labels = np.array([[1, 0]] * 12 + [[0, 1]] * 18)
    assert compare_sets(labels, signs).p == pytest.approx(
        compare_numbers(labels[:, 0].astype(float), signs).p
    )


@pytest.mark.parametrize("compare", [compare_vectors, compare_numbers, compare_sets])
def test_one_value_only_is_no_drift(compare):
    signs = draw_signs(70, 70, 99, np.random.default_rng(0))
    values = np.full(140, 1e7) if compare is compare_numbers else np.full((140, 3), 1 / 3)
    found = compare(values, signs)
    assert found.p == 1 and found.coefficient == 0 and np.isfinite(found.moved).all()


def test_p_values_are_corrected_for_their_number():
    p = np.array([0.01, 0.04, 0.03, 0.5])
    assert adjust_holm(p) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert adjust_fdr(p) == pytest.approx([0.04, 0.04 * 4 / 3, 0.04 * 4 / 3, 0.5])
    assert adjust_holm(np.array([])).size == adjust_fdr(np.array([])).size == 0
    assert adjust_holm(np.ones(3)).tolist() == [1, 1, 1]


def test_needed_is_the_size_that_shows_half_a_deviation():
    assert Testing().needed == 63 and Testing(alpha=0.001).needed > Testing().needed


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the capital of France?", "en"),
        ("Was ist die Hauptstadt von Frankreich?", "de"),
        ("Quelle est la capitale de la France ?", "fr"),
        ("¿Cuál es la capital de Francia y por qué?", "es"),
        ("Qual è la capitale della Francia?", "it"),
        ("Wat is de hoofdstad van Frankrijk en hoe groot is het?", "nl"),
        ("Какая столица Франции?", "cyrillic"),
        ("フランスの首都はどこですか", "ja"),
        ("法国的首都是哪里", "zh"),
        ("프랑스의 수도는", "ko"),
        ("12 + 7 = ?", "none"),
        ("", "none"),
        ("xyzzy plugh", "other"),
    ],
)
def test_the_language_of_a_text(text, language):
    assert tell_language(text) == language


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("Sorry to hear that! Take a walk.", False),
        ("I cannot provide that.", True),
        ("As an AI, I have no opinion.", True),
        ("Das kann ich leider nicht sagen. Tut mir leid.", True),
        ("You can't divide by zero.", False),
        ("x" * 300 + " I cannot", False),
        ("", False),
    ],
)
def test_a_refusal_shows_at_the_beginning(text, refused):
    assert is_refusal(text) is refused


def fill(store, count=70, later=0, label="a", score=0.5, text=None, **more):  # noqa: F811
    """Prompts with an answer, a label and a score each; ``later`` days after noon."""
    if not store.count("id=r", kind="run"):
        store.add(Run(id="r", origin="real", name="gpt"))
    made = {"origin": "synthetic", "generator": "r", "run": "r"}
    time = NOON + timedelta(days=later)
    texts = [text or QUESTIONS[i % len(QUESTIONS)] for i in range(count)]
    asked = store.add(
        *(Prompt(origin="real", payload=Payload(text=t), time=time, **more) for t in texts)
    )
    answers = store.add(
        *(
            Response(prompt=one, payload=Payload(text=f"{t}!"), time=time, **made)
            for one, t in zip(asked, texts, strict=True)
        )
    )
    for name, values in (("category", {"label": label}), ("good", {"value": score})):
        store.add(*(Feedback(origin="real", target=o, name=name, **values) for o in answers))
    return asked


OLD, NEW = "time<2026-03-05", "time>=2026-03-05"


def compare(store, kind="response", old=OLD, new=NEW, encoder=Words(), **options):  # noqa: F811
    samples = [read_sample(store, Window(one, kind), encoder, 0) for one in (old, new)]
    check_apart(*samples)
    return find_drift(*samples, Testing(**options))


def test_drift_of_a_store_is_found_with_examples(store):  # noqa: F811
    fill(store)
    fill(store, later=7)
    assert not compare(store).drifted and not compare(store, "prompt").drifted
    tests = [one.test for one in compare(store).findings]
    assert tests == ["embedding", "length", "language", "refusals", "label category", "score good"]
    fill(store, later=14, label="b", score=0.9, text="Ich kann dabei leider nicht helfen.")
    found = compare(store, new="time>=2026-03-12")
    assert {one.test for one in found.drifted} == set(tests)
    said = {one.test: one.said for one in found.findings}
    assert said["refusals"] == "0.0% → 100.0%" and said["score good"] == "mean 0.5 → 0.9"
    assert said["label category"] == "a 100.0% → 0.0%" and said["language"] == "de 0.0% → 100.0%"
    (record, text), *_ = next(one for one in found.findings if one.test == "language").examples
    assert text.startswith("Ich kann") and store.get(record, "any").payload.text.startswith("Ich")
    assert compare(store, new="time>=2026-03-12") == found  # the same seed
    tagged = compare(store, "prompt", new="time>=2026-03-12")
    assert "tags" not in [one.test for one in tagged.findings]


def test_tags_are_compared_where_there_are_any(store):  # noqa: F811
    fill(store, tags=("a", "b"))
    fill(store, later=7, tags=("b",))
    (tags,) = (one for one in compare(store, "prompt").findings if one.test == "tags")
    assert tags.drifted and tags.said == "a 100.0% → 0.0%"


def test_many_tags_and_long_texts_are_bounded(store):  # noqa: F811
    for later in (0, 7):
        time = NOON + timedelta(days=later)
        store.add(
            *(
                Prompt(
                    origin="real",
                    payload=Payload(text=f"{'ab ' * 10_000}{i}"),
                    tags=tuple(f"t{later}-{i}-{k}" for k in range(30)),
                    time=time,
                )
                for i in range(64)
            )
        )
    found = {one.test: one for one in compare(store, "prompt", encoder=None).findings}
    assert found["length"].said == "median 30,002 → 30,002 characters (+0%)"
    assert found["tags"].effect > 0 and not math.isnan(found["tags"].p)


def test_bad_windows_are_refused_and_named(store):  # noqa: F811
    fill(store, 62)
    fill(store, 70, later=7)
    for old, new, field, word in (
        (OLD, NEW, "reference", "63"),
        ("time<2020-01-01", NEW, "reference", "got 0"),
        (NEW, "time>2030-01-01", "window", "63"),
        (NEW, "time>=2026-03-04", "window", "70"),
        ("nothing=1", NEW, "filter", "nothing"),
        ("time<yesterday", NEW, "filter", "time"),
    ):
        with pytest.raises(UserError) as error:
            compare(store, old=old, new=new)
        assert error.value.field == field and word in str(error.value), (old, new)


def test_scores_that_are_no_numbers_and_too_few_are_left_out(store):  # noqa: F811
    ids = fill(store)
    fill(store, later=7)
    store.add(*(Feedback(origin="real", target=one, name="rare", value=1.0) for one in ids))
    table = store_feedback()
    with store.writing() as connection:  # as another program may write them
        connection.execute(table.update().where(table.c.value == 0.5).values(value=math.nan))
    found = compare(store)
    assert "score good" not in [one.test for one in found.findings]
    skipped = dict(compare(store, "prompt").skipped)
    assert skipped == {"score rare": "needs 63 values in each window, has 70 and 0"}
    assert dict(compare(store, encoder=None).skipped) == {"embedding": "there is no encoder"}


def store_feedback():
    from genjax.store import schema

    return schema.KINDS["feedback"]


def test_a_large_window_is_sampled_and_times_to_come_are_counted(store):  # noqa: F811
    fill(store)
    ahead = (datetime.now(UTC) - NOON).days + 30
    fill(store, 80, later=ahead)
    sample = read_sample(store, Window(NEW, "prompt", "any", 70), None, seed=1)
    assert (len(sample), sample.total, sample.future) == (70, 80, 70)
    assert sample.ids == read_sample(store, Window(NEW, "prompt", "any", 70), None, seed=1).ids
    assert sample.ids != read_sample(store, Window(NEW, "prompt", "any", 70), None, seed=2).ids


@pytest.mark.parametrize("kind", ["prompt", "response"])
def test_one_record_of_each_conversation_is_drawn(store, kind):  # noqa: F811
    store.add(Run(id="r", origin="real"), *(Session(id=f"s{i}", origin="real") for i in range(7)))
    made = {"origin": "synthetic", "generator": "r"}
    for i in range(21):
        session = f"s{i % 7}" if i < 14 else None
        store.add(
            Prompt(id=f"p{i}", origin="real", session=session, payload=Payload(text="a")),
            Response(id=f"a{i}", prompt=f"p{i}", payload=Payload(text="b"), **made),
        )
    drawn = [
        read_sample(store, Window("", kind, one_each=True), None, seed).ids for seed in range(9)
    ]
    for ids in drawn:
        numbers = [int(one[1:]) for one in ids]
        assert sorted(n % 7 for n in numbers if n < 14) == list(range(7))
        assert {n for n in numbers if n >= 14} == set(range(14, 21))
    assert len(set(drawn)) > 1 and len(read_sample(store, Window("", kind), None, 0)) == 21


def test_the_command_reports_drift(store, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr("genjax.store.index.opening.open_encoder", lambda name: Words())
    fill(store)
    fill(store, later=7, label="b")
    place = store.url.render_as_string(False).removeprefix("sqlite:///")
    given = ["store", "drift", place, "--reference", OLD, "--window", NEW]
    assert command_line.main(given) == 0
    said = capsys.readouterr().out
    assert said.startswith("reference  70 responses\nwindow     70 responses\n")
    assert "label category  0.00" in said and "drifted" in said and "a 100.0% → 0.0%" in said
    assert command_line.main([*given, "--json", "--alpha", "0.045", "--correction", "fdr"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert read["drifted"] == ["label category"] and read["testing"]["alpha"] == 0.045
    for more, field in (
        (["--alpha", "0"], "alpha"),
        (["--alpha", "nan"], "alpha"),
        (["--draws", "5"], "draws"),
        (["--seed", "-1"], "seed"),
        (["--most", "10"], "reference"),
        (["--most", "10", "--one-each"], "reference"),
        (["--window", OLD], "window"),
        (["--window", ""], "window"),
        (["--reference", "time<2020-01-01"], "reference"),
    ):
        assert command_line.main([*given, *more]) == 2, more
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and field in said


def test_without_its_package_the_default_encoder_is_left_out(tmp_path, capsys, monkeypatch):
    def lacks(name):
        raise UserError(f"encoder {name!r} needs the package wordllama", "encoder")

    monkeypatch.setattr("genjax.store.index.opening.open_encoder", lacks)
    with open_store(str(tmp_path / "talk.db"), create=True) as store:  # noqa: F811
        fill(store)
        fill(store, later=7)
    given = ["store", "drift", str(tmp_path / "talk.db"), "--reference", OLD, "--window", NEW]
    assert command_line.main(given) == 0
    assert "left out   embedding: encoder 'wordllama' needs" in capsys.readouterr().out
    assert command_line.main([*given, "--encoder", "else"]) == 2
