"""A mock of an OpenAI-compatible server that gives set answers and records its requests."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


@dataclass
class Mock:
    """What the mock answers a prompt with, and what it was asked."""

    answer: Callable[[str], object]
    status: int = 200
    asked: list[dict] = field(default_factory=list)

    async def list_models(self, request: Request) -> JSONResponse:
        return JSONResponse({"object": "list", "data": [{"id": "mock", "object": "model"}]})

    async def complete(self, request: Request) -> JSONResponse:
        body = await request.json()
        self.asked.append(body)
        if self.status != 200:
            return JSONResponse({"error": {"message": "overloaded"}}, self.status)
        said = {"role": "assistant", "content": self.answer(body["messages"][-1]["content"])}
        choice = {"index": 0, "message": said, "finish_reason": "stop"}
        found = {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"]}
        return JSONResponse(found | {"choices": [choice]})


@contextlib.contextmanager
def serve_mock(mock: Mock) -> Iterator[str]:
    """Serve it on a free port; gives the URL."""
    routes = [
        Route("/v1/models", mock.list_models),
        Route("/v1/chat/completions", mock.complete, methods=["POST"]),
    ]
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(Starlette(routes=routes), log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join(60)
        listening.close()
