"""Converts text codecs to Hugging Face's tokenizer files, and back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from genjax.checks import Component
from genjax.data.chat.jinja import JinjaTemplate
from genjax.data.text.codecs import Bytes, Characters, Words
from genjax.data.text.subwords import Subwords
from genjax.data.text.words import word_pattern
from genjax.errors import UserError
from genjax.serial import json_text
from genjax.serial.json_text import Json

FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"
DELIMITER, UNKNOWN = "<|endoftext|>", "<unk>"
MASKS = ("[MASK]", "<mask>")


def read_codec(folder: Path, config: Mapping[str, Json], rows: int) -> Subwords:
    """Read the codec of a folder's ``tokenizer.json``.

    Documents start with the token that the tokenizer puts first, and end with the one it puts last,
    or else its end-of-text token.

    Args:
      config: fields of config.json, for special tokens that the tokenizer's own config does not
          name.
      rows: number of rows of the embedding.

    Raises:
      UserError: the file is missing or not a tokenizer, or has more tokens than the model.
    """
    path = folder / FILE
    codec = _read_file(folder)
    tokens = codec.vocabulary
    if tokens > rows:
        raise UserError(
            f"vocab_size must be >= {tokens:,}, the tokens of {path}, got {rows:,}", "vocab_size"
        )
    tokenizer = Tokenizer.from_str(codec.tokenizer)
    named = _json(folder / CONFIG) if (folder / CONFIG).exists() else {}
    if _make_special(tokenizer, named):
        codec = dataclasses.replace(codec, tokenizer=tokenizer.to_str())

    def special(role: str) -> str | None:
        number = config.get(f"{role}_token_id")
        number = number[0] if isinstance(number, list) and number else number
        value = _name_special(named, role)
        if not value and type(number) is int and 0 <= number < rows:
            value = tokenizer.id_to_token(number)
        known = isinstance(value, str) and tokenizer.token_to_id(value) is not None
        return value if known else None

    before, after = _find_special(tokenizer)
    return dataclasses.replace(
        codec,
        start_token=before,
        end_token=after or special("eos"),
        pad_token=special("pad"),
        mask_token=special("mask"),
        rows=rows if rows > tokens else None,
    )


def _read_file(folder: Path) -> Subwords:
    """Read the codec of the file alone; refuse a missing file or one that is not a tokenizer."""
    path = folder / FILE
    if not path.is_file():
        convert = (
            "from transformers import AutoTokenizer as T; "
            f"T.from_pretrained('{folder}').save_pretrained('{folder}')"
        )
        raise UserError(
            f'{folder} has no {FILE}; transformers can convert other files: python -c "{convert}"'
        )
    codec = Subwords(end_token=None, unknown="token", file=str(path)).fit(())
    try:
        _ = codec.vocabulary  # refuses what is not a tokenizer
        _find_special(Tokenizer.from_str(codec.tokenizer))  # encodes a letter as a test
    except (UserError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the library is not an Exception
        reason = (str(error).splitlines() or ["it is damaged"])[0]
        raise UserError(f"{path} is not a tokenizer.json: {reason}", str(path)) from None
    return codec


def _name_special(named: Mapping[str, Json], role: str) -> Json:
    """Return the special token of a role in tokenizer_config.json."""
    value = named.get(f"{role}_token")
    return value.get("content") if isinstance(value, Mapping) else value


def _make_special(tokenizer: Tokenizer, named: Mapping[str, Json]) -> bool:
    """Mark tokens as special as tokenizer_config.json says, like ``transformers``; return whether
    anything changed.

    Tokens outside the vocabulary are left out, as the model has no rows for them.
    """
    listed = [named.get(name) for name in ("additional_special_tokens", "extra_special_tokens")]
    values = [value for name, value in named.items() if name.endswith("_token")]
    values += [
        one
        for part in listed
        for one in (part.values() if isinstance(part, Mapping) else part or ())
    ]
    added = named.get("added_tokens_decoder")
    values += [
        one for one in (added.values() if isinstance(added, Mapping) else ()) if one.get("special")
    ]
    before = tokenizer.to_str()
    known = {
        token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special
    }
    for value in values:
        name = value.get("content") if isinstance(value, Mapping) else value
        if (
            isinstance(name, str)
            and name
            and name not in known
            and tokenizer.token_to_id(name) is not None
        ):
            flags = (
                {n: bool(value.get(n)) for n in ("lstrip", "rstrip")}
                if isinstance(value, Mapping)
                else {}
            )
            tokenizer.add_special_tokens(
                [AddedToken(name, special=True, normalized=False, **flags)]
            )
    return tokenizer.to_str() != before


def dump_files(
    codec: Component, context: int, types: bool, template: JinjaTemplate | None = None
) -> dict[str, str]:
    """Write the tokenizer files of a codec as texts, by name.

    Args:
      context: context of the model, in tokens.
      types: whether the model has token types.
      template: chat template, whose special tokens keep their names.

    Raises:
      UserError: the codec cannot be converted.
    """
    tokenizer = _tokenizer(codec)
    roles = _roles(codec) | {"pad_token_id": codec.pad}
    names = {
        role.removesuffix("_id"): tokenizer.id_to_token(i)
        for role, i in roles.items()
        if i is not None
    }
    if codec.start is not None and _find_special(tokenizer)[0] is None:
        start = tokenizer.id_to_token(codec.start)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[start, "$A"],
            pair=[start, "$A", start, "$B"],
            special_tokens=[(start, codec.start)],
        )
    unknown = json.loads(tokenizer.to_str())["model"].get("unk_token")
    if unknown is not None:
        names["unk_token"] = unknown
    masks = [name for name in MASKS if tokenizer.token_to_id(name) is not None]
    if masks:
        names["mask_token"] = masks[0]
    inputs = ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"]
    if template is not None and template.names:
        names = {name: text for name, text in names.items() if name != "bos_token"} | dict(
            template.names
        )
    fields = names | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "model_input_names": inputs,
        "clean_up_tokenization_spaces": False,
    }
    return {FILE: tokenizer.to_str(), CONFIG: json.dumps(fields, indent=2) + "\n"}


def dump_alone(codec: Component, ended: bool = False) -> str:
    """Write a ``tokenizer.json`` that encodes texts with the codec's start token and, if ``ended``,
    its end token.

    Raises:
      UserError: the codec cannot be converted.
    """
    tokenizer = _make_words(codec) if isinstance(codec, Words) else _tokenizer(codec)
    before = [] if codec.start is None else [codec.start]
    after = [codec.end] if ended and codec.end is not None else []
    names = {i: tokenizer.id_to_token(i) for i in (*before, *after)}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[*(names[i] for i in before), "$A", *(names[i] for i in after)],
        special_tokens=[(name, i) for i, name in names.items()],
    )
    return tokenizer.to_str()


def find_ends(codec: Component, template: JinjaTemplate | None = None) -> dict[str, Json]:
    """Return the numbers of the start and end tokens, as fields of config.json and
    generation_config.json.
    """
    found = () if template is None else template.ends(codec) if isinstance(codec, Subwords) else ()
    return _roles(codec) | (
        {"eos_token_id": found[0] if len(found) == 1 else list(found)} if found else {}
    )


def start_and_end(codec: Component) -> tuple[str, str]:
    """Return the names of the start and end tokens in the tokenizer files; "" for none."""
    tokenizer = _tokenizer(codec)
    start, end = (None if i is None else tokenizer.id_to_token(i) for i in (codec.start, codec.end))
    return start or "", end or ""


def _roles(codec: Component) -> dict[str, int | None]:
    return {
        "bos_token_id": codec.start if codec.start is not None else codec.end,
        "eos_token_id": codec.end,
    }


def _find_special(tokenizer: Tokenizer) -> tuple[str | None, str | None]:
    """Return the special tokens that a tokenizer puts before and after a text, if there is just
    one.
    """
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.no_padding()  # padding is special, too, and would look like an end token
    try:
        whole = tokenizer.encode("a")
    except Exception:  # the vocabulary lacks this letter; the library raises a bare Exception
        return None, None
    mask = whole.special_tokens_mask
    before = mask.index(0) if 0 in mask else 0
    after = mask[::-1].index(0) if 0 in mask else 0
    return whole.tokens[0] if before == 1 else None, whole.tokens[-1] if after == 1 else None


def _tokenizer(codec: Component) -> Tokenizer:
    if isinstance(codec, Subwords):
        return Tokenizer.from_str(codec.tokenizer)
    special = [DELIMITER] if getattr(codec, "delimiter", False) else []
    if isinstance(codec, Characters):
        unknown = [UNKNOWN] if codec.unknown == "token" else []
        names = [*special, *unknown, *codec.characters]
        vocabulary = {name: i for i, name in enumerate(names)}
        model = models.WordLevel(vocabulary, UNKNOWN) if unknown else models.WordLevel(vocabulary)
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        tokenizer.decoder = decoders.Fuse()
    elif isinstance(codec, Bytes):
        letters = _letters() + special
        tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        raise UserError(f"a {type(codec).__name__} cannot be converted to a Hugging Face tokenizer")
    tokenizer.add_special_tokens(special)
    return tokenizer


def _make_words(codec: Words) -> Tokenizer:
    """Build a tokenizer that splits words as the codec does, but for non-decimal digits such as
    superscripts, on which regular expression engines differ.
    """
    names = ("<pad>", UNKNOWN, "<s>", "</s>")
    vocabulary = {name: i for i, name in enumerate((*names, *codec.words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, UNKNOWN))
    if codec.lower:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(word_pattern()), behavior="removed", invert=True
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    tokenizer.add_special_tokens([name for name in names if name != UNKNOWN])
    return tokenizer


def _letters() -> list[str]:
    """Return the letter for each byte in byte-level tokenizers: the byte itself if it is printable,
    else one from 256 on.
    """
    seen = {*range(33, 127), *range(161, 173), *range(174, 256)}
    unseen = sorted(set(range(256)) - seen)
    return [chr(byte if byte in seen else 256 + unseen.index(byte)) for byte in range(256)]


def _json(path: Path) -> dict[str, Json]:
    try:
        found = json_text.parse(path.read_bytes(), str(path))
        if isinstance(found, dict):
            return found
    except (OSError, UserError):
        pass
    raise UserError(f"{path} is damaged: it is not a table of fields in JSON", str(path))
