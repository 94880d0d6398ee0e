"""Chat templates and tiny tokenizers of the forms that are in use, for tests.

The templates are written for these tests; they give the texts that the models' own give.
"""

import functools
import json

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from genjax.data.chat.jinja import JinjaTemplate
from genjax.data.chat.turns import Turn
from genjax.data.text.subwords import Subwords

CHATML = """{% for m in messages %}<|im_start|>{{ m['role'] }}
{{ m['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
QWEN2 = (
    "{%- for m in messages -%}"
    "{%- if loop.first and m.role != 'system' -%}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}"
    "{%- endif -%}"
    "{{ '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>' ~ '\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
LLAMA3 = (
    "{%- for m in messages -%}"
    "{%- set said = '<|start_header_id|>' ~ m['role'] ~ '<|end_header_id|>\\n\\n' ~ m['content'] | "
    "trim -%}"
    "{{ (bos_token if loop.first else '') ~ said ~ '<|eot_id|>' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
    "{%- endif -%}"
)
MISTRAL = (
    "{{- bos_token -}}{%- set ns = namespace(system='') -%}"
    "{%- for m in messages -%}"
    "{%- if m.role == 'system' -%}{%- set ns.system = m.content ~ '\\n\\n' -%}"
    "{%- elif m.role == 'user' -%}"
    "{{- '[INST] ' ~ ns.system ~ m.content ~ ' [/INST]' -}}{%- set ns.system = '' -%}"
    "{%- elif m.role == 'assistant' -%}{{- ' ' ~ m.content | trim ~ eos_token -}}"
    "{%- else -%}{{- raise_exception('only system, user and assistant speak') -}}{%- endif -%}"
    "{%- endfor -%}"
)
GEMMA = (
    "{{ bos_token }}{%- for m in messages -%}"
    "{%- if m.role == 'system' -%}{{ raise_exception('System role not supported') }}{%- endif -%}"
    "{%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{ raise_exception('roles must alternate') }}{%- endif -%}"
    "{%- set role = 'model' if m.role == 'assistant' else m.role -%}"
    "{{ '<start_of_turn>' ~ role ~ '\\n' ~ m.content | trim ~ '<end_of_turn>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}"
)
GENERATED = (
    "{%- for m in messages -%}{{ '<|im_start|>' ~ m.role ~ '\\n' }}"
    "{%- if m.role == 'assistant' -%}"
    "{% generation %}{{ m.content ~ '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}"
    "{%- else -%}{{ m.content ~ '<|im_end|>\\n' }}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
TEMPLATES = {
    "chatml": CHATML,
    "qwen2": QWEN2,
    "llama3": LLAMA3,
    "mistral": MISTRAL,
    "gemma": GEMMA,
    "generation": GENERATED,
}
SPECIAL = (
    "<unk>",
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "[INST]",
    "[/INST]",
    "<start_of_turn>",
    "<end_of_turn>",
)
NAMES = (("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>"))
TEXT = [
    "user\nWhat is tea?\nassistant\nTea is a drink. It is made of leaves and hot water.\n\n",
    "system\nYou are a helpful assistant. Be short, and be kind.\nmodel\n  indented\n",
    "[INST] Say hello to the sea [/INST] Hello, sea! user assistant system\n",
] * 5


def byte_level():
    """As Qwen2's and Llama 3's: bytes, split by a pattern; offsets of its post-processor are
    trimmed.
    """
    tokenizer = Tokenizer(models.BPE())
    pattern = Regex(r" ?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, "isolated"),
            pre_tokenizers.ByteLevel(False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[], initial_alphabet=letters, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def fallback_vocabulary():
    """Words of sentencepiece with a token for each byte, its first three special."""
    return [*SPECIAL[:3], *(f"<0x{byte:02X}>" for byte in range(256))]


def sentencepiece(scheme):
    """As Llama 2's, Mistral's and Gemma's: words with ▁ for a space, bytes for what the
    vocabulary lacks.
    """
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(vocab_size=150, special_tokens=[], show_progress=False)
    learner.train_from_iterator([line for text in TEXT for line in text.split("\n")], trainer)
    learned = json.loads(learner.to_str())["model"]
    names = [*fallback_vocabulary(), *learned["vocab"]]
    vocabulary = {name: i for i, name in enumerate(dict.fromkeys(names))}
    merges = [tuple(pair) for pair in learned["merges"]]
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    if scheme == "legacy":  # Llama 2's: every piece between special tokens begins with ▁
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    elif scheme == "gemma":
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    normalized = {"normalized": False, "special": True}
    tokenizer.add_special_tokens([AddedToken(name, **normalized) for name in SPECIAL])
    if scheme == "gemma":  # which has runs of new lines as ordinary added tokens
        tokenizer.add_tokens(
            [AddedToken("\n\n", normalized=False), AddedToken("\n\n\n", normalized=False)]
        )
    return tokenizer


def unigram():
    """As T5's: special tokens lie in the vocabulary of the model, at a score that beats all
    letters.
    """
    letters = sorted(set("".join(TEXT).replace(" ", "▁")) | set("".join(SPECIAL)))
    pieces = [(name, 0.0) for name in SPECIAL]
    pieces += [(letter, -3.0) for letter in letters] + [
        ("▁tea", -2.0),
        ("▁is", -2.0),
        ("user", -2.5),
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, 0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def stripping():
    """Bytes, whose special tokens take the blanks beside them, and match whole words or
    normalised text.
    """
    tokenizer = byte_level()
    tokenizer.normalizer = normalizers.NFC()
    stored = json.loads(tokenizer.to_str())
    for token in stored["added_tokens"]:
        token["rstrip"] = token["content"] in ("<|im_start|>", "[INST]")
        token["lstrip"] = token["content"] in ("<|im_end|>", "</s>")
        token["normalized"] = token["content"] in ("<|eot_id|>", "<end_of_turn>")
    return Tokenizer.from_str(json.dumps(stored))


TOKENIZERS = {
    "bytes": byte_level,
    "first": functools.partial(sentencepiece, "first"),
    "always": functools.partial(sentencepiece, "always"),
    "never": functools.partial(sentencepiece, "never"),
    "legacy": functools.partial(sentencepiece, "legacy"),
    "gemma": functools.partial(sentencepiece, "gemma"),
    "unigram": unigram,
    "stripping": stripping,
}


@functools.cache
def codec_of(kind):
    return Subwords(end_token="</s>", unknown="token", tokenizer=TOKENIZERS[kind]().to_str())


def template_of(name):
    return JinjaTemplate(TEMPLATES[name], NAMES, ("</s>",), None, f"{name}.jinja")


def turns(*texts, system=None):
    """Turns of a user and an assistant, one after the other."""
    roles = ("user", "assistant")
    spoken = tuple(Turn(roles[i % 2], text) for i, text in enumerate(texts))
    return spoken if system is None else (Turn("system", system), *spoken)


def messages(spoken):
    return [{"role": role, "content": text} for role, text in spoken]
