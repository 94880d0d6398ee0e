"""Requests and answers follow OpenAI's format, extended by options of a run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from genjax.serve.slots import BIASED

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Stop = Annotated[str, Field(min_length=1, max_length=1000)]
Line = Annotated[str, Field(min_length=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Bias = Annotated[float, Field(ge=-100, le=100)]
MOST_ROWS = 128  # maximum number of texts in a request


class Request(BaseModel):
    """Fields that all requests share."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())

    model: Annotated[str, Field(description="the name of a run that is served")]
    user: str | None = None
    metadata: Annotated[
        dict[str, str] | None,
        Field(
            max_length=16,
            description='kept with the exchange; "session" names the conversation that it is of',
        ),
    ] = None
    store: Annotated[
        bool | None, Field(description="false leaves this exchange out of the store")
    ] = None


class StreamOptions(BaseModel):
    """Options of a stream."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False
    include_obfuscation: bool = False


class TextRequest(Request):
    """Fields of all requests for texts; a missing value takes that of the run's own sampler."""

    n: Annotated[int | None, Field(ge=1, le=MOST_ROWS)] = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float | None, Field(ge=0, le=100, allow_inf_nan=False)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    top_k: Annotated[int | None, Field(ge=1, le=2**31 - 1)] = None
    min_p: Annotated[float | None, Field(gt=0, le=1)] = None
    repetition_penalty: Annotated[float | None, Field(gt=0, le=1000)] = None
    seed: Annotated[
        Seed | None, Field(description="of genjax sample; choice i is drawn with seed + i")
    ] = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: Annotated[
        dict[Annotated[str, Field(pattern=r"^\d{1,9}$")], Bias] | None,
        Field(max_length=BIASED, description="tokens, and what is added to their logits"),
    ] = None

    @property
    def stops(self) -> tuple[str, ...]:
        stop = self.stop or ()
        return (stop,) if isinstance(stop, str) else tuple(stop)


class Part(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A turn of a conversation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Annotated[str, Field(min_length=1, max_length=64)]
    content: str | list[Part]
    name: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class TextFormat(BaseModel):
    """Plain text, the only format of answers."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]


class ChatRequest(TextRequest):
    """The body of ``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=10_000)]
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    response_format: TextFormat | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None


class CompletionRequest(TextRequest):
    """The body of ``POST /v1/completions``."""

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=MOST_ROWS)]
        | Annotated[list[int], Field(min_length=1)]
        | Annotated[list[list[int]], Field(min_length=1, max_length=MOST_ROWS)]
    ) = ""
    logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    echo: bool | None = None


class EmbeddingRequest(Request):
    """The body of ``POST /v1/embeddings``."""

    input: Line | Annotated[list[Line], Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int | None, Field(ge=1, description="of the model, if given")] = None


class ImageRequest(Request):
    """The body of ``POST /v1/images/generations``."""

    prompt: Annotated[
        str,
        Field(description="what a text-to-image run draws, or the label of a class; else empty"),
    ]
    n: Annotated[int | None, Field(ge=1, le=64)] = None
    response_format: Literal["b64_json", "url"] | None = None
    seed: Annotated[Seed | None, Field(description="of genjax sample --num n")] = None
    size: Annotated[str | None, Field(description='WIDTHxHEIGHT of the run, or "auto"')] = None


class SpeechRequest(Request):
    """The body of ``POST /v1/audio/speech``."""

    input: Annotated[str, Field(description="the label of the sound; empty for any")]
    voice: str | None = None
    response_format: Literal["wav"] | None = None
    seed: Seed | None = None


class Usage(BaseModel):
    """Numbers of tokens that were read and drawn."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ErrorDetail(BaseModel):
    """Details of an error."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of an error answer."""

    error: ErrorDetail


class ChatMessage(BaseModel):
    """The message of an answer."""

    role: Literal["assistant"]
    content: str


class ChatChoice(BaseModel):
    """One answer; ``record`` is its id in the store."""

    index: int
    message: ChatMessage
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]
    record: str | None


class ChatAnswer(BaseModel):
    """The answer of ``/v1/chat/completions``; ``stored`` tells whether the exchange is stored."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    seed: int
    stored: bool


class CompletionChoice(BaseModel):
    """One text; ``record`` is its id in the store."""

    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]
    record: str | None


class CompletionAnswer(BaseModel):
    """The answer of ``/v1/completions``."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    seed: int
    stored: bool
