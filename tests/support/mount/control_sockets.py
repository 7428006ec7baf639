"""A control socket as commands find it, without a daemon behind: what is answered, and what was asked."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

Answer = dict[str, Any] | Callable[[dict[str, Any]], dict[str, Any]]


class ControlSocket:
    """Answers each command from a table; what is not in it gets an error. close() removes the socket.

    asked: all requests so far, each with its fields.
    """

    def __init__(self, path: Path, **answers: Answer) -> None:
        self.path = path
        self.answers = answers
        self.asked: list[dict[str, Any]] = []
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(os.fspath(path))
        self._server.listen(8)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End, and remove the socket. A second call does nothing."""
        if self._thread.is_alive():
            self._server.shutdown(socket.SHUT_RDWR)
            self._thread.join()
            self._server.close()
            self.path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client:
                data = b"".join(iter(lambda client=client: client.recv(65536), b""))
                if data:  # else somebody who asks for the peer's pid alone
                    answer = json.dumps(self._answer(json.loads(data))).encode()
                    with contextlib.suppress(ConnectionError):  # the client may not have waited for it
                        client.sendall(answer)

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(request)
        answer = self.answers.get(request["command"], {"error": f"no answer to {request['command']}"})
        return answer(request) if callable(answer) else answer

    @property
    def commands(self) -> list[str]:
        """The commands so far."""
        return [request["command"] for request in self.asked]
