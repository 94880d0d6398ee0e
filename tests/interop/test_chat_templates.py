"""Chat templates of folders in Hugging Face's layout: read, kept by runs, used by others, and
written again.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer

import genjax
from genjax import __main__ as command_line
from genjax.data.chat.jinja import JinjaTemplate
from genjax.data.chat.template import ChatCodec, ChatTemplate, Turn, conversation
from genjax.data.sources import Instructions, Preferences, TextFiles
from genjax.data.text.codecs import Bytes, Characters
from genjax.data.text.layouts import Blocks
from genjax.data.text.splits import ByDocuments
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError
from genjax.experiment import Every, Experiment, Keep
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.interop import chat_templates, huggingface
from genjax.interop.huggingface import Pretrained
from genjax.nets.transformer.token_backbone import TokenBackbone
from genjax.nets.transformer.token_net import TokenNet
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD
from genjax.parallel import Devices
from genjax.posttrain.dpo import DPO
from genjax.posttrain.reward import RewardModel
from genjax.runs.export import export_pretrained
from genjax.runs.pretrained import import_run, with_base
from genjax.runs.setup import open_data
from genjax.schedules import Constant
from genjax.start_from import StartFrom
from tests.data.chat_cases import CHATML, NAMES, TEMPLATES, codec_of, messages, turns

ONE = Devices(count=1)
CHATS = [
    {"messages": messages(turns("What is tea?", f"Tea {n}", "Is it hot?", "Yes"))} for n in range(8)
]
NET = Transformer(1, 2, 8, 96)


def written(folder, template=None, codec=None, **fields):
    """A model in Hugging Face's layout whose tokenizer_config.json has these fields."""
    codec = codec or codec_of("bytes")
    module = TokenNet(NET, codec.vocabulary)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32)))
    draw = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: draw.normal(0, 0.3, leaf.shape).astype(np.float32), shapes["params"]
    )
    huggingface.save(Pretrained(NET, params, codec), folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | dict(NAMES) | fields))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def read(folder):
    return huggingface.load(folder).template


def peer(folder):
    transformers = pytest.importorskip(
        "transformers", reason="transformers is an extra: .[reference]"
    )
    return transformers.AutoTokenizer.from_pretrained(folder)


def test_a_template_is_read_from_where_it_lies(tmp_path):
    assert read(written(tmp_path / "none")) is None
    beside = read(written(tmp_path / "file", CHATML, chat_template="{{ 'other' }}"))
    assert (beside.source, beside.names, beside.date) == (CHATML, NAMES, None)
    assert beside.file == str(tmp_path / "file" / "chat_template.jinja") and beside.stops == (
        "</s>",
    )
    assert read(written(tmp_path / "text", chat_template=CHATML)).source == CHATML
    listed = [{"name": "tool_use", "template": "{{ 1 }}"}, {"name": "default", "template": CHATML}]
    assert read(written(tmp_path / "list", chat_template=listed)).source == CHATML
    assert read(written(tmp_path / "others", chat_template=listed[:1])) is None
    more = written(tmp_path / "more", CHATML) / "additional_chat_templates"
    more.mkdir()
    (more / "rag.jinja").write_text("{% broken")
    (more.parent / "generation_config.json").write_text('{"eos_token_id": [2, 4, 999, null, "x"]}')
    found = huggingface.load(more.parent)
    assert found.template.stops == tuple(found.codec.name(i) for i in (2, 4))
    dated = read(written(tmp_path / "dated", CHATML + "{# strftime_now #}"))
    assert dated.date is not None


@pytest.mark.parametrize(
    ("template", "fields", "said"),
    [
        ("{% for m in messages %}", {}, "line 1"),
        ("{{ ''.__class__.__mro__ }}", {}, "not allowed"),
        (b"\xff\xfe", {}, "cannot be read"),
        ("{#" + "a" * 2**20 + "#}" + CHATML, {}, "at most 1,048,576 characters"),
        (None, {"chat_template": 5}, "must be a text or a list"),
        (None, {"chat_template": ["a"]}, "must be a text or a list"),
        (None, {"chat_template": "{{ 'a' * 10**10 }}"}, "of memory"),
    ],
)
def test_a_bad_template_is_one_line_that_names_its_file(template, fields, said, tmp_path):
    folder = written(tmp_path / "model", **fields)
    if template is not None:
        (folder / "chat_template.jinja").write_bytes(
            template if isinstance(template, bytes) else template.encode()
        )
    with pytest.raises(UserError, match=said) as error:
        huggingface.load(folder)
    name = "tokenizer_config.json" if template is None else "chat_template.jinja"
    assert error.value.field == str(folder / name) and str(folder / name) in str(error.value)
    assert "\n" not in str(error.value)


def test_tokens_that_the_folder_calls_special_are_so(tmp_path):
    stored = json.loads(codec_of("bytes").tokenizer)
    vocabulary = len(stored["model"]["vocab"])
    for token in stored["added_tokens"][
        3:
    ]:  # of the vocabulary alone, as some tokenizers are written
        stored["model"]["vocab"][token["content"]] = token["id"]
    del stored["added_tokens"][3:]
    codec = Subwords(end_token="</s>", unknown="token", tokenizer=json.dumps(stored))
    extra = {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}
    folder = written(tmp_path / "model", CHATML, codec, **extra)
    found = huggingface.load(folder)
    tokens = conversation(found.codec, found.template, turns("a<|im_end|>", "b"), "here").tokens
    assert (tokens == found.codec.token("<|im_end|>")).sum() == 2 and found.codec.token(
        "<|im_end|>"
    ) == vocabulary + 4
    wanted = peer(folder).apply_chat_template(messages(turns("a", "b")), return_dict=False)
    assert (
        conversation(found.codec, found.template, turns("a", "b"), "here").tokens.tolist() == wanted
    )


def experiment(tmp_path, data=None, family=None, start=None, **fields):
    (tmp_path / "chats.json").write_text(json.dumps(CHATS))
    data = data or Instructions(
        str(tmp_path / "chats.json"), codec=Subwords(), length=90, cache=str(tmp_path / "c")
    )
    family = family or Autoregressive(NET, sampler=Decoding(steps=3, prompt="What is tea?"))
    told = {
        "steps": 1,
        "batch_size": 2,
        "every": Every(1, 0, 1, 1),
        "keep": Keep(best=None),
        "devices": ONE,
    }
    return Experiment(
        family, data, SGD(Constant(0.0)), **(told | fields), start_from=StartFrom(start)
    )


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A run that began with a model whose template is Llama 3's, and its folder."""
    folder = tmp_path_factory.mktemp("tuned")
    written(folder / "model", TEMPLATES["llama3"])
    ends = [codec_of("bytes").token(name) for name in ("</s>", "<|eot_id|>")]
    (folder / "model" / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    told = with_base(experiment(folder), str(folder / "model"), str(folder / "run"))
    return genjax.train(told, folder / "run", quiet=True), folder


@pytest.mark.long
def test_a_run_takes_the_template_of_the_model_that_it_begins_with(tuned, capsys):
    run, folder = tuned
    template = read(folder / "model")
    assert run.codec == ChatCodec(run.codec.tokens, template)
    assert genjax.load(folder / "run").codec.template == template
    stored = json.loads((folder / "run" / "codec.json").read_text())["codec"]["template"]
    assert stored["source"] == TEMPLATES["llama3"]
    rows = open_data(run.experiment, run.run_dir).splits["train"].batch(np.arange(2))
    chat = tuple(Turn(one["role"], one["content"]) for one in CHATS[0]["messages"])
    ids = conversation(run.codec, template, chat, "here").tokens.tolist()
    assert len({len(ids)}) == 1 and rows["tokens"][0][:10].tolist() == ids[:10]
    (folder / "run_from").rename(folder / "gone")  # a run that has started needs the other no more
    again = genjax.train(dataclasses.replace(run.experiment, steps=2), folder / "run", quiet=True)
    (folder / "gone").rename(folder / "run_from")
    assert again.step == 2 and "chat template" not in capsys.readouterr().err


def test_a_prompt_is_what_a_user_says_and_its_turns_do_not_end_the_text(tuned, tmp_path):
    run, folder = tuned
    out = tmp_path / "said.txt"
    told = [
        "sample",
        str(run.run_dir),
        "--prompt",
        "tea <|eot_id|>?",
        "--num",
        "2",
        "--out",
        str(out),
    ]
    assert command_line.main(told) == 0
    begin = "user\n\ntea <|eot_id|>?assistant\n\n"
    assert out.read_text().count(begin) == 2
    assert (folder / "run" / "samples" / "00000001.txt").read_text().count(
        "user\n\nWhat is tea?assistant\n\n"
    ) > 1
    prepared = Decoding(prompt="hi").encode(run.codec, {})
    assert prepared.ends == tuple(run.codec.tokens.token(name) for name in ("<|eot_id|>", "</s>"))


def test_the_export_makes_the_same_tokens(tuned):
    run, folder = tuned
    assert (
        command_line.main(
            ["export", str(run.run_dir), "--to", "huggingface", "--out", str(folder / "out")]
        )
        == 0
    )
    model, back = huggingface.load(folder / "model"), huggingface.load(folder / "out")
    assert (back.template.source, back.template.names) == (
        model.template.source,
        model.template.names,
    )
    assert back.template.ends(back.codec) == run.codec.ends
    ends = json.loads((folder / "out" / "generation_config.json").read_text())["eos_token_id"]
    assert ends == list(run.codec.ends)
    tokenizer = peer(folder / "out")
    for chat in (turns("What?", "Tea.", " b ", "c"), turns("a\n", "é", system="Be kind.")):
        wanted = conversation(run.codec, run.codec.template, chat, "here").tokens.tolist()
        assert tokenizer.apply_chat_template(messages(chat), return_dict=False) == wanted
        prompt = tokenizer.apply_chat_template(
            messages(chat[:-1]), add_generation_prompt=True, return_dict=False
        )
        assert prompt == wanted[: len(prompt)]


def preferences(folder):
    pairs = [{"prompt": f"Say {n}", "chosen": "yes!", "rejected": "no"} for n in range(8)]
    (folder / "pairs.json").write_text(json.dumps(pairs))
    return Preferences(
        str(folder / "pairs.json"), codec=Subwords(), length=60, cache=str(folder / "c")
    )


def test_runs_of_preferences_take_the_template_of_the_run_that_they_begin_with(
    tuned, tmp_path, capsys
):
    run, _ = tuned
    reward = RewardModel(TokenBackbone(NET, "last"))
    begun = experiment(tmp_path, preferences(tmp_path), reward, str(run.run_dir))
    for told in (begun, experiment(tmp_path, preferences(tmp_path), DPO(str(run.run_dir)))):
        data = open_data(told)
        assert data.codec == run.codec
        batch = data.splits["train"].batch(np.arange(1))
        row = batch["chosen_tokens"][0][batch["chosen_mask"][0] > 0]
        answer = batch["chosen_tokens"][0][batch["chosen_response"][0] > 0]
        assert answer.tolist() == [*run.codec.encode("yes!").tolist(), run.codec.end]
        assert (
            row.tolist()[: -len(answer)]
            == run.codec.encode_prompt(run.codec.decode(row).split("\n\n")[1][:5]).tolist()
        )
    assert "chat template" not in capsys.readouterr().err


def test_another_template_and_none_are_said(tuned, tmp_path, capsys):
    run, _ = tuned
    plain = ChatTemplate((("user", "Q:", "\n"), ("assistant", "A:", "\n")))
    told = experiment(tmp_path, start=str(run.run_dir))
    other = dataclasses.replace(told, data=dataclasses.replace(told.data, template=plain))
    assert open_data(other).codec.template == plain
    assert (
        f"the chat template of the data is used; that of {run.run_dir} differs"
        in capsys.readouterr().err
    )
    same = dataclasses.replace(
        told, data=dataclasses.replace(told.data, template=run.codec.template)
    )
    assert open_data(same).codec == run.codec and "chat template" not in capsys.readouterr().err
    reads = experiment(tmp_path, texts(tmp_path), start=str(run.run_dir))
    assert type(open_data(reads).codec) is Subwords
    assert f"the chat template of {run.run_dir} is not used" in capsys.readouterr().err
    import_run(written(tmp_path / "plain"), tmp_path / "base", texts(tmp_path))
    without = experiment(tmp_path, start=str(tmp_path / "base"))
    assert open_data(without).codec.template == ChatTemplate()
    said = capsys.readouterr().err
    assert (
        f"{tmp_path / 'base'} has no chat template: the one of the data, Alpaca's, is used" in said
    )


def texts(tmp_path):
    (tmp_path / "texts").mkdir(exist_ok=True)
    for name in "ab":
        (tmp_path / "texts" / f"{name}.txt").write_text("tea is hot " * 60)
    split = ByDocuments(test=0.5)
    root, cache = str(tmp_path / "texts"), str(tmp_path / "c")
    return TextFiles(root, codec=Subwords(), layout=Blocks(9), cache=cache, split=split)


@pytest.mark.parametrize(
    "file", [Subwords(start_token="<|endoftext|>"), Characters(delimiter=True), Bytes(True)]
)
def test_a_template_of_roles_is_written_as_one_in_jinja(file, tmp_path):
    text = "### Instruction: Response:\n'\"\\{{ x }}é tea?Be shrt. QA0123456789 wahiskndmW%"
    codec = (
        file.fit([text])
        if not isinstance(file, Subwords)
        else dataclasses.replace(file, size=300).fit([text] * 3)
    )
    odd = ChatTemplate(
        (("system", "{{", "\\"), ("asks", "'Q\"\n", "é\n"), ("bot", "A:{%", "\n\n")), "asks", "bot"
    )
    net = dataclasses.replace(NET, context=64)
    for number, template in enumerate((ChatTemplate(), odd)):
        chat = ChatCodec(codec, template)
        folder = tmp_path / str(number)
        module = TokenNet(net, codec.vocabulary)
        params = jax.tree.map(
            lambda leaf: np.zeros(leaf.shape, np.float32),
            jax.eval_shape(
                lambda m=module: m.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
            )["params"],
        )
        huggingface.save(
            Pretrained(net, params, codec, template=chat_templates.to_jinja(chat)), folder
        )
        tokenizer = peer(folder)
        for spoken in (
            turns("What is tea?", "tea"),
            turns("a", "hs", "is", "tea", system="Be short."),
        ):
            names = {"user": template.user, "assistant": template.assistant}
            ours = tuple(Turn(names.get(role, role), said) for role, said in spoken)
            wanted = conversation(chat, template, ours, "here")
            assert (
                tokenizer.apply_chat_template(messages(spoken), return_dict=False)
                == wanted.tokens.tolist()
            )
            prompt = tokenizer.apply_chat_template(
                messages(spoken[:-1]), add_generation_prompt=True, return_dict=False
            )
            assert prompt == wanted.tokens.tolist()[: len(prompt)] and wanted.learned[len(prompt)]
        back = huggingface.load(folder)
        read = conversation(back.codec, back.template, turns("What is tea?", "tea"), "here")
        ours = (Turn(template.user, "What is tea?"), Turn(template.assistant, "tea"))
        wanted = conversation(chat, template, ours, "here")
        assert (
            read.tokens.tolist() == wanted.tokens.tolist()
            and read.learned.tolist() == wanted.learned.tolist()
        )
        with pytest.raises(UserError, match="no role"):
            back.template.text((Turn("tool", "a"), *turns("a", "b")))


def test_an_export_of_a_run_of_conversations_has_its_template(tuned):
    run, _ = tuned
    assert export_pretrained(run).template == run.codec.template
    roles = dataclasses.replace(run, codec=ChatCodec(run.codec.tokens, ChatTemplate()))
    assert isinstance(export_pretrained(roles).template, JinjaTemplate)
    assert export_pretrained(dataclasses.replace(run, codec=run.codec.tokens)).template is None


def test_a_folder_loses_the_template_of_an_earlier_export(tuned, tmp_path):
    run, _ = tuned
    model = export_pretrained(run)
    huggingface.save(model, tmp_path / "out")
    huggingface.save(dataclasses.replace(model, template=None), tmp_path / "out")
    assert (
        read(tmp_path / "out") is None and not (tmp_path / "out" / "chat_template.jinja").exists()
    )


def test_a_codec_that_was_written_without_a_template_is_read(tuned, tmp_path):
    run, _ = tuned
    stored = json.loads((run.run_dir / "codec.json").read_text())
    del stored["codec"]["template"]
    (tmp_path / "codec.json").write_text(json.dumps(stored))
    from etils import epath

    assert genjax.runs.directory.load_codec(epath.Path(tmp_path))[1].template == ChatTemplate()
    assert Tokenizer.from_str(run.codec.tokens.tokenizer).get_vocab_size() == run.codec.vocabulary
