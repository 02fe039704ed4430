"""A local server that answers wandb's clients as far as a dashboard needs it, and keeps what they asked for."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROJECT = {"id": "UDE=", "name": "p", "entityName": "me", "createdAt": "2026-01-01T00:00:00Z", "isBenchmark": False}
PROJECT |= {"__typename": "Project", "user": None}


@contextmanager
def stand_in() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Its address, and the GraphQL requests so far: operation, query, variables."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            operation = (re.findall(r"(?:query|mutation)\s+(\w+)", body["query"]) or ["?"])[0]
            asked.append({"operation": operation, **body})
            answer = json.dumps({"data": answer_to(body["query"], body.get("variables") or {})}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer_to(query: str, variables: dict[str, Any]) -> dict[str, Any]:
    if "upsertView" in query:
        view = {"id": "VmlldzoxMjM=", "type": variables["type"], "name": variables["name"], "project": PROJECT}
        view |= {"displayName": variables["displayName"], "description": variables["description"]}
        view |= {"spec": variables["spec"], "updatedAt": "2026-01-01T00:00:00Z"}
        return {"upsertView": {"view": view, "inserted": True}}
    if "upsertModel" in query:
        return {"upsertModel": {"project": PROJECT, "model": PROJECT, "inserted": True}}
    if "internalId" in query:
        return {"project": {"internalId": "UHJvamVjdEludGVybmFsSWQ6MQ=="}}
    if "models(" in query or "projects(" in query:
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {"models": {"edges": [{"node": PROJECT, "cursor": "a"}], "pageInfo": page}}
    if "viewer" in query:
        return {"viewer": {"id": "VTE=", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
    return {}
