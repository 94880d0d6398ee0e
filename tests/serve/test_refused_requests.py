"""What the API refuses, in OpenAI's form, and that the server goes on."""

import json
import socket
import time

import openai
import pytest

from tests import serving

ASKED = [{"role": "user", "content": "How was it?"}]
CHAT = {"model": "chat", "messages": ASKED, "max_tokens": 4}
TEXT = {"model": "chat", "prompt": "a", "max_tokens": 4}

REFUSED = [
    ("/v1/chat/completions", CHAT | {"model": "chatt"}, 404, "model"),
    ("/v1/chat/completions", CHAT | {"model": "../chat"}, 404, "model"),
    ("/v1/chat/completions", {"model": "chat"}, 400, "messages"),
    ("/v1/chat/completions", CHAT | {"messages": []}, 400, "messages"),
    ("/v1/chat/completions", CHAT | {"messages": "hello"}, 400, "messages"),
    ("/v1/chat/completions", CHAT | {"messages": [{"role": "user"}]}, 400, "messages.0.content"),
    (
        "/v1/chat/completions",
        CHAT | {"messages": [{"role": "tool", "content": "a"}]},
        400,
        "messages",
    ),
    (
        "/v1/chat/completions",
        CHAT | {"messages": [{"role": "user", "content": "a" * 300}]},
        400,
        "messages",
    ),
    ("/v1/chat/completions", CHAT | {"temperature": "hot"}, 400, "temperature"),
    ("/v1/chat/completions", CHAT | {"temperature": -0.1}, 400, "temperature"),
    ("/v1/chat/completions", CHAT | {"temperature": True}, 400, "temperature"),
    ("/v1/chat/completions", CHAT | {"top_p": 0}, 400, "top_p"),
    ("/v1/chat/completions", CHAT | {"max_tokens": 0}, 400, "max_tokens"),
    ("/v1/chat/completions", CHAT | {"max_tokens": 1.5}, 400, "max_tokens"),
    ("/v1/chat/completions", CHAT | {"max_tokens": 10**9}, 400, "max_tokens"),
    ("/v1/chat/completions", CHAT | {"max_completion_tokens": 3}, 400, "max_tokens"),
    ("/v1/chat/completions", CHAT | {"n": 0}, 400, "n"),
    ("/v1/chat/completions", CHAT | {"n": 10**6}, 400, "n"),
    ("/v1/chat/completions", CHAT | {"seed": -1}, 400, "seed"),
    ("/v1/chat/completions", CHAT | {"seed": 2**32}, 400, "seed"),
    ("/v1/chat/completions", CHAT | {"top_logprobs": 2}, 400, "top_logprobs"),
    ("/v1/chat/completions", CHAT | {"stop": ""}, 400, "stop"),
    ("/v1/chat/completions", CHAT | {"stop": ["a", ""]}, 400, "stop"),
    ("/v1/chat/completions", CHAT | {"frequency_penalty": 2.5}, 400, "frequency_penalty"),
    ("/v1/completions", TEXT | {"presence_penalty": "1"}, 400, "presence_penalty"),
    ("/v1/completions", TEXT | {"logit_bias": {"257": 1}}, 400, "logit_bias"),
    ("/v1/completions", TEXT | {"logit_bias": {"-1": 1}}, 400, "logit_bias"),
    ("/v1/completions", TEXT | {"logit_bias": {"a": 1}}, 400, "logit_bias"),
    ("/v1/completions", TEXT | {"logit_bias": {"1": 101}}, 400, "logit_bias"),
    (
        "/v1/chat/completions",
        CHAT | {"logit_bias": dict.fromkeys(map(str, range(301)), 1)},
        400,
        "logit_bias",
    ),
    ("/v1/chat/completions", CHAT | {"tools": [{"type": "function"}]}, 400, "tools"),
    ("/v1/chat/completions", CHAT | {"wheels": 4}, 400, "wheels"),
    ("/v1/completions", TEXT | {"prompt": [300]}, 400, "prompt"),
    ("/v1/completions", TEXT | {"prompt": [-1]}, 400, "prompt"),
    ("/v1/completions", TEXT | {"prompt": [2**70]}, 400, "prompt"),
    ("/v1/completions", TEXT | {"prompt": []}, 400, "prompt"),
    ("/v1/completions", TEXT | {"prompt": {"a": 1}}, 400, "prompt"),
    ("/v1/completions", TEXT | {"prompt": "a" * 500}, 400, "prompt"),
    ("/v1/completions", TEXT | {"prompt": ["a"] * 100, "n": 2}, 400, "n"),
    ("/v1/images/generations", {"model": "chat", "prompt": ""}, 400, "model"),
    ("/v1/images/generations", {"model": "pictures", "prompt": "a cat"}, 400, "prompt"),
    (
        "/v1/images/generations",
        {"model": "pictures", "prompt": "", "size": "1024x1024"},
        400,
        "size",
    ),
    ("/v1/audio/speech", {"model": "chat", "input": "a"}, 400, "model"),
    ("/v1/audio/speech", {"model": "tones", "input": "no such pitch"}, 400, "input"),
    ("/v1/embeddings", {"model": "chat", "input": "a"}, 400, "model"),
    ("/v1/embeddings", {"model": "encoder", "input": []}, 400, "input"),
    ("/v1/embeddings", {"model": "encoder", "input": "a", "dimensions": 7}, 400, "dimensions"),
    ("/v1/completions", {"model": "pictures", "prompt": "a"}, 400, "model"),
]


def read_error(body):
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] and "\n" not in error["message"] and error["type"]
    return error


@pytest.mark.parametrize(("path", "body", "status", "param"), REFUSED)
def test_a_wrong_request_is_refused_with_its_field(served, path, body, status, param):
    found, _, said = served.ask(path, body)
    error = read_error(said)
    assert (found, (error["param"] or "").split(".str")[0]) == (status, param) or (
        found == status and error["param"].startswith(f"{param}.")
    )


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1, 2", b"\xff\xfe", b"null", b"3", b'"text"', b"[]", b'{"model": NaN']
)
def test_what_is_not_json_is_refused(served, body):
    status, _, said = served.ask("/v1/chat/completions", body, method="POST")
    assert status == 400 and read_error(said)["type"] == "invalid_request_error"


def test_json_a_thousand_deep_is_refused(served):
    body = b'{"model":"chat","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    status, _, said = served.ask("/v1/chat/completions", body)
    assert status == 400 and read_error(said)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("GET", "/v1/chat/completions", 405), ("POST", "/healthz", 405)],
)
def test_paths_and_methods_that_are_not_there(served, method, path, status):
    found, _, said = served.ask(path, method=method)
    assert found == status and read_error(said)


def test_a_large_body_is_refused_before_it_is_read(served):
    body = json.dumps(CHAT | {"user": "a" * 11_000_000}).encode()
    status, _, said = served.ask("/v1/chat/completions", body)
    assert status == 413 and "10 MB" in read_error(said)["message"]
    with pytest.raises(openai.APIStatusError) as error:
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="a", max_retries=0).completions.create(
            model="chat", prompt="a" * 10_000_001
        )
    assert error.value.status_code == 413


def test_a_body_of_almost_ten_megabytes_is_read(served):
    long = CHAT | {"messages": [{"role": "user", "content": "a" * 9_900_000}]}
    status, _, said = served.ask("/v1/chat/completions", long)
    error = read_error(said)
    assert (status, error["code"]) == (400, "context_length_exceeded")


def test_a_body_that_comes_too_slowly_is_given_up(served):
    """Its client has five seconds here; meanwhile others are answered."""
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        head = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"
        slow.sendall(head + b'{"model"')
        begin = time.monotonic()
        assert served.ask("/v1/completions", TEXT)[0] == 200
        assert b" 408 " in slow.recv(1000)
        assert 4 < time.monotonic() - begin < 60


def test_a_client_that_leaves_gives_its_slots_back(served):
    host, port = served.url.removeprefix("http://").split(":")
    for stream in (True, False):
        body = json.dumps(TEXT | {"max_tokens": 4096, "n": 8, "stream": stream}).encode()
        with socket.create_connection((host, int(port))) as client:
            head = (
                "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            client.sendall(head.encode() + body)
            serving.wait_for(lambda: served.active == 4)
        serving.wait_for(lambda: served.idle)


def test_markup_is_given_back_as_text(client):
    said = "<script>alert(1)</script>"
    answer = client.completions.create(model="chat", prompt=said, echo=True, max_tokens=1)
    assert answer.choices[0].text.startswith(said)
