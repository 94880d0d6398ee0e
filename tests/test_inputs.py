"""Samples for inputs of one's own: files in, records out, and the input beside each answer."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import genjax
from genjax import gx
from genjax.errors import UserError
from genjax.runs.inputs import draw_for
from tests.test_main import cli, refused
from tests.test_other_set import NET, train, write_images

PAIRS = (
    ("ein hund schläft", "a dog sleeps"),
    ("eine katze", "a cat"),
    ("der hund und die katze schlafen", "the dog and the cat sleep"),
)
LABELLED = {"Arabic": 40, "Greek": 210, "Latin": 120}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "text").mkdir()
    (folder / "text" / "a.txt").write_text("the cat sat on the mat\n" * 60, encoding="utf-8")
    text = gx.TextFiles(
        root=str(folder / "text"), layout=gx.RandomWindows(16), cache=str(folder / "c")
    )
    sampler = gx.Decoding(steps=6)
    train(folder / "gpt", gx.Autoregressive(NET, sampler=sampler), text)
    (folder / "pairs").mkdir()
    for part in ("train", "val", "test"):
        for side, language in enumerate(("de", "en")):
            lines = "\n".join(pair[side] for pair in PAIRS * 4)
            (folder / "pairs" / f"{part}.{language}").write_text(lines, encoding="utf-8")
    pairs = gx.SentencePairs(
        root=str(folder / "pairs"), test="test", source_length=16, length=16, cache=str(folder)
    )
    greedy = gx.Decoding(steps=8, temperature=0.0, source="eine katze")
    train(
        folder / "translator",
        gx.Autoregressive(NET, sampler=greedy),
        pairs,
        optimizer=gx.Adam(gx.Constant(0.01)),
        steps=150,
    )
    images = write_images(folder / "images", LABELLED)
    vae = gx.VAE(latent_dim=2, coder=gx.MLPCoder(hidden=(8,)), conditional=True)
    train(folder / "letters", vae, gx.ImageFolder(root=str(images)))
    return folder


def write(path: Path, *records) -> Path:
    text = "\n".join(r if isinstance(r, str) else json.dumps(r) for r in records)
    path.write_text(f"{text}\n", encoding="utf-8")
    return path


def rows(result) -> list[dict]:
    assert result.code == 0, result.err
    path = Path(result.out.split()[-1])
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.long
def test_a_file_of_sources_is_translated_line_by_line(places, tmp_path):
    file = write(tmp_path / "in.txt", *(pair[0] for pair in PAIRS))
    found = rows(cli("sample", places / "translator", "--sources", file))
    assert found == [{"source": source, "text": target} for source, target in PAIRS]


def test_records_keep_their_other_fields_and_any_number_is_answered(places, tmp_path):
    records = [{"id": i, "source": PAIRS[i % 3][0]} for i in range(300)]
    file = write(tmp_path / "in.jsonl", *records)
    found = rows(
        cli("sample", places / "translator", "--sources", file, "--out", tmp_path / "out.jsonl")
    )
    assert found == [record | {"text": PAIRS[record["id"] % 3][1]} for record in records]
    assert "drawn from" in cli("show", tmp_path / "out.jsonl").out


def test_several_sources_on_the_command_line_are_a_text_file(places, tmp_path):
    words = [word for pair in PAIRS[:2] for word in ("--source", pair[0])]
    result = cli("sample", places / "translator", *words, "--out", tmp_path / "a.txt")
    assert result.code == 0, result.err
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "a dog sleeps\na cat\n"


def test_a_prompt_for_a_translator_is_refused_and_its_beginning_explained(places, tmp_path):
    file = write(tmp_path / "in.txt", "ein hund")
    refused(cli("sample", places / "translator", "--prompt", "ein hund"), "--source, .*--sources")
    refused(cli("sample", places / "translator", "--prompts", file), "reads what it translates")
    told = cli("sample", places / "translator", "--sampler.prompt", "the", "--num", 1)
    assert told.code == 0 and "each answer begins with sampler.prompt" in told.err


@pytest.mark.parametrize(
    ("name", "records"),
    [
        ("in.txt", ["the cat", "t", "on the mat"]),
        ("in.jsonl", [{"prompt": "the cat"}, {"prompt": "t"}, {"prompt": "on the mat"}]),
        ("in.json", ['["the cat", "t", "on the mat"]']),
        ("chat.jsonl", [{"prompt": [{"role": "user", "content": text}]} for text in ("a", "the")]),
    ],
)
def test_prompts_are_answered_beside_themselves(places, tmp_path, name, records):
    run = genjax.load(places / "gpt")
    file = write(tmp_path / name, *records)
    found = rows(cli("sample", places / "gpt", "--prompts", file, "--seed", 4))
    prompts = tuple(row["prompt"] for row in found)
    drawn = run.sample(len(found), 4, run.family.sampler.with_prompts(prompts))
    whole = [run.codec.decode(run.codec.until_end(row)) for row in drawn]
    assert [row["prompt"] + row["completion"] for row in found] == whole


def test_more_prompts_than_are_drawn_at_once_each_have_draws_of_their_own(places):
    run = genjax.load(places / "gpt")
    parts = list(draw_for(run, "prompt", ["the cat"] * 300, seed=1))
    texts = [text for part in parts for text in part.decode_completions(run.codec)]
    assert len(texts) == 300 and texts[:44] != texts[256:]


def test_a_record_for_each_sample_without_inputs(places, tmp_path):
    found = rows(cli("sample", places / "gpt", "--num", 3, "--out", tmp_path / "a.jsonl"))
    assert [list(row) for row in found] == [["text"]] * 3


def test_labels_by_name_and_number(places, tmp_path):
    run = genjax.load(places / "letters")
    assert run.spec.class_names == tuple(LABELLED)
    by_name = cli(
        "sample", places / "letters", "--sampler.label", "Greek", "--out", tmp_path / "a.png"
    )
    by_number = cli("sample", places / "letters", "--sampler.label", 1, "--out", tmp_path / "b.png")
    assert by_name.code == by_number.code == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    refused(cli("sample", places / "letters", "--sampler.label", "Grek"), "did you mean 'Greek'")
    out = tmp_path / "c.jsonl"
    found = rows(
        cli("sample", places / "letters", "--labels", "Latin", "0", "--num", 4, "--out", out)
    )
    assert [row["label"] for row in found] == ["Latin", "0", "Latin", "0"]
    drawn = np.concatenate([part.samples for part in draw_for(run, "label", ["2", "0"] * 2)])
    for row, image in zip(found, run.codec.decode(drawn), strict=True):
        picture = np.asarray(Image.open(tmp_path / row["file"]))
        np.testing.assert_array_equal(picture, image[..., 0])
    file = write(tmp_path / "labels.txt", "Greek", "Arabic")
    assert [row["label"] for row in rows(cli("sample", places / "letters", "--labels", file))] == [
        "Greek",
        "Arabic",
    ]


@pytest.mark.parametrize(
    ("run", "options", "message"),
    [
        ("letters", ("--sources", "FILE"), "take a label, not a source"),
        ("gpt", ("--labels", "3"), "take a prompt, not a label"),
        ("gpt", ("--source", "x"), "take a prompt, not a source"),
        ("letters", ("--prompt", "x"), "take no prompt"),
        ("gpt", ("--prompts", "missing.txt"), "there is no file"),
        ("gpt", ("--prompts", "TABLE"), "JSON records"),
        ("gpt", ("--prompts", "WRONG"), "must have 'prompt', got 'question'"),
        ("gpt", ("--prompts", "EMPTY"), "holds no prompt"),
        ("gpt", ("--prompts", "LONG"), "prompt 2, .* the model reads 1 to 32"),
        ("gpt", ("--prompts", "STRANGE"), "prompt 1, 'q#'"),
        ("gpt", ("--prompts", "FILE", "--prompt", "x"), "do not go together"),
        ("translator", ("--sources", "FILE", "--stream"), "do not go together"),
    ],
)
def test_what_cannot_be_is_refused_by_name(places, tmp_path, run, options, message):
    files = {
        "FILE": write(tmp_path / "a.txt", "a"),
        "TABLE": write(tmp_path / "a.csv", "prompt", "a"),
        "WRONG": write(tmp_path / "a.jsonl", {"question": "a"}),
        "EMPTY": write(tmp_path / "b.txt", "", ""),
        "LONG": write(tmp_path / "c.txt", "a", "a" * 40),
        "STRANGE": write(tmp_path / "d.txt", "q#"),
    }
    refused(cli("sample", places / run, *(files.get(o, o) for o in options)), message)


def test_a_config_takes_the_number_of_a_label(places):
    run = genjax.load(places / "letters")
    family = gx.replace_fields(run.experiment, {"family.sampler.label": "Greek"})
    with pytest.raises(UserError) as error:
        genjax.train(family, places / "named", quiet=True)
    assert error.value.field == "family.sampler.label" and "which is 1" in str(error.value)
