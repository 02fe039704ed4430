"""captions.endpoint: what is sent to an OpenAI-compatible server, and what becomes of its answers and failures."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import threading
import wave
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmattn.cli.main import main
from mmattn.errors import MmattnError, UsageError
from mmattn.inference.annotators.captions import endpoint as endpoints
from mmattn.inference.annotators.captions.endpoint import EndpointModel
from mmattn.inference.annotators.captions.requirements import is_loopback
from mmattn.inference.annotators.captions.spans import CaptionSpan
from mmattn.media.write.video import write_video


class Server:
    """Answers as vLLM does and keeps what it was asked. `failing`: statuses of the next answers, None cuts one off."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self.failing: list[int | None] = []
        self.under_way = self.most = 0
        self.say: Callable[[dict[str, Any]], str] = lambda body: "a dog barks"
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(200, {"object": "list", "data": [{"id": "some-model", "object": "model"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    server.asked.append(body)
                    server.headers.append(self.headers)
                    status = server.failing.pop(0) if server.failing else 200
                if status is None:
                    self.close_connection = True
                    return
                if status in (301, 302, 307):
                    self.send_response(status)
                    self.send_header("Location", "http://example.invalid/v1/chat/completions")
                    self.end_headers()
                elif status != 200:
                    self.answer(status, {"error": {"message": f"no\nluck {status}", "type": "server_error"}})
                else:
                    message = {"role": "assistant", "content": f" {server.say(body)}\n"}
                    self.answer(200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

            def answer(self, status: int, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "_WAIT_S", 0.01)


def _writer(server: Server, **settings: Any) -> EndpointModel:
    given = {"model": None, "max_tokens": 12, "timeout_s": 20.0, "retries": 2, "at_once": 4} | settings
    return EndpointModel(server.address, **given)


def _span(seed: int = 0, frames: int = 2, sound: bool = True) -> CaptionSpan:
    draw = torch.Generator().manual_seed(seed)
    shown = (torch.arange(frames)[:, None, None, None] * 90 + 40).to(torch.uint8).expand(-1, 3, 36, 64).contiguous()
    heard = 0.3 * torch.randn(8000, generator=draw) if sound else None
    return CaptionSpan(0.0, 0.5, shown if frames else None, heard)


def _decoded(url: str, kind: str) -> bytes:
    head, _, data = url.partition(",")
    assert head == f"data:{kind};base64"
    return base64.b64decode(data, validate=True)


def test_pictures_and_sound_are_sent_as_vllm_documents_them(server: Server) -> None:
    writer, span = _writer(server), _span()
    assert writer.describe([span], "Say what happens.") == ["a dog barks"] and "some-model" in writer.version
    (body,) = server.asked
    assert body["model"] == "some-model" and body["max_tokens"] == 12 and body["temperature"] == 0
    (message,) = body["messages"]
    assert message["role"] == "user"
    *images, sound, text = message["content"]
    assert text == {"type": "text", "text": "Say what happens."} and len(images) == 2
    for image, value in zip(images, (40, 130), strict=True):
        assert image["type"] == "image_url"
        picture = Image.open(io.BytesIO(_decoded(image["image_url"]["url"], "image/jpeg")))
        assert picture.size == (64, 36) and abs(np.asarray(picture).astype(int) - value).max() <= 2
    assert sound["type"] == "audio_url"
    with wave.open(io.BytesIO(_decoded(sound["audio_url"]["url"], "audio/wav"))) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (1, 16000, 8000)
        heard = np.frombuffer(file.readframes(8000), "<i2") / 32767
    assert span.waveform is not None and abs(heard - span.waveform.clamp(-1, 1).numpy()).max() < 1e-4
    assert server.headers[0]["Authorization"] is None


def test_a_span_without_sound_or_picture_sends_none(server: Server) -> None:
    writer = _writer(server)
    writer.describe([_span(sound=False)], "Say.")
    writer.describe([_span(frames=0)], "Say.")
    kinds = [[part["type"] for part in body["messages"][0]["content"]] for body in server.asked]
    assert kinds == [["image_url", "image_url", "text"], ["audio_url", "text"]]
    assert writer.answer("Sum up.") == "a dog barks" and server.asked[2]["messages"][0]["content"] == "Sum up."


def test_answers_are_those_of_their_spans_whatever_their_order(server: Server) -> None:
    server.say = lambda body: f"{len(body['messages'][0]['content'])} parts"
    spans = [_span(frames=count, sound=False) for count in (3, 1, 5, 2, 4, 1)]
    wanted = ["4 parts", "2 parts", "6 parts", "3 parts", "5 parts", "2 parts"]
    assert _writer(server, at_once=1).describe(spans, "Say.") == _writer(server, at_once=6).describe(spans, "Say.")
    assert _writer(server).describe(spans, "Say.") == wanted


def test_what_may_pass_is_asked_again_and_what_may_not_is_one_line(server: Server) -> None:
    writer = _writer(server)
    server.failing = [503, None]
    assert writer.answer("Sum up.") == "a dog barks" and len(server.asked) == 3
    server.failing = [500, 429, 502]
    with pytest.raises(MmattnError, match=r"chat/completions: no answer .HTTP 502: no luck 502.$") as error:
        writer.answer("Sum up.")
    assert "\n" not in str(error.value) and len(server.asked) == 6
    server.failing = [400]
    with pytest.raises(MmattnError, match="HTTP 400: no luck 400"):
        writer.answer("Sum up.")
    assert len(server.asked) == 7, "a wrong request is not asked again"
    server.failing = [307]
    with pytest.raises(MmattnError, match="HTTP 307"):
        writer.answer("Sum up.")


def test_a_server_that_takes_too_long_or_is_gone_is_one_line(server: Server) -> None:
    started, release = threading.Event(), threading.Event()

    def wait(body: dict[str, Any]) -> str:
        started.set()
        release.wait(30)
        return "late"

    server.say = wait
    with pytest.raises(MmattnError, match="timed out"):
        _writer(server, timeout_s=0.2, retries=0).answer("Sum up.")
    release.set()
    assert started.is_set()
    server.close()
    with pytest.raises(UsageError, match=r"captions.endpoint=.*start the server"):
        _writer(server, retries=0)


def test_a_key_is_read_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "abc")
    _writer(server, key_env="MY_KEY").answer("Sum up.")
    assert server.headers[0]["Authorization"] == "Bearer abc"


def test_a_proxy_never_sees_what_is_sent_to_this_machine(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert _writer(server, retries=0).answer("Sum up.") == "a dog barks"


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://127.8.9.1/v1", True),
        ("http://localhost:1/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://localhost.example.com/v1", False),
        ("http://user@example.com/v1", False),
        ("http://127.0.0.1@example.com/v1", False),
        ("http://10.0.0.1/v1", False),
        ("http://0x7f.1/v1", False),
        ("http://[::ffff:10.0.0.1]/v1", False),
    ],
)
def test_which_addresses_are_this_machine(address: str, own: bool) -> None:
    assert is_loopback(address) is own


def test_the_command_captions_by_a_server(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("scenedetect")
    stills = np.random.default_rng(0).integers(0, 255, (2, 64, 96, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mkv", np.concatenate([still[None].repeat(36, 0) for still in stills]), 12)

    def say(body: dict[str, Any]) -> str:
        content = body["messages"][0]["content"]
        return "all of it" if isinstance(content, str) else f"{len(content) - 1} pictures"

    server.say, out = say, tmp_path / "out.jsonl"
    command = ["predict", "model=pretrained", "annotators=[captions]", f"source={tmp_path / 'a.mkv'}", f"out={out}"]
    command += [f"captions.endpoint={server.address}", "captions.embeddings=none", "captions.retries=0"]
    assert main(command) == 0, capsys.readouterr().err
    (record,) = map(json.loads, out.read_text().splitlines())
    found = [(each["text"], each["level"], each["start"], round(each["end"])) for each in record["captions"]]
    assert found == [("3 pictures", "shot", 0, 3), ("all of it", "summary", 0, 6), ("3 pictures", "shot", 3, 6)]
    assert record["versions"] == {"captions": "some-model by chat completions"}
    assert record["used"] == {"captions": ["video"]}


def test_a_server_that_fails_stops_the_job_and_the_same_command_goes_on(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command, out = _three_files(server, tmp_path)
    server.failing = [200, 401]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "HTTP 401: no luck 401" in error and "run the same command again" in error and not out.exists()
    asked = len(server.asked)
    assert main([*command, "captions.max_tokens=3"]) == 2, "other captions are another job"
    command[-2] = "captions.retries=1"
    assert main(command) == 0, capsys.readouterr().err
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["captions"][0]["text"] for record in records] == ["a dog barks"] * 3
    assert len(server.asked) == asked + 2, "what was answered is not asked again"


def test_a_worker_that_is_killed_at_work_costs_no_file(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command, out = _three_files(server, tmp_path)
    killed: list[int] = []

    def say(body: dict[str, Any]) -> str:
        if len(server.asked) == 2:
            killed.extend(_children())
            for child in killed:
                os.kill(child, signal.SIGKILL)
        return "a dog barks"

    server.say = say
    assert main(command) == 0, capsys.readouterr().err
    assert killed and len(server.asked) == 4, "one was asked for again"
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(record["status"], record["captions"][0]["text"]) for record in records] == [("ok", "a dog barks")] * 3


def _three_files(server: Server, folder: Path) -> tuple[list[str], Path]:
    (folder / "in").mkdir()
    for name in "abc":
        write_video(folder / "in" / f"{name}.mkv", np.full((3, 32, 32, 3), 90, np.uint8), 1)
    out = folder / "out.jsonl"
    command = ["predict", "model=pretrained", "annotators=[captions]", f"source={folder / 'in'}", f"out={out}"]
    command += [f"captions.endpoint={server.address}", "captions.by=windows", "captions.retries=0"]
    return [*command, "captions.levels=[shots]"], out


def _children() -> list[int]:
    """Of this process, those that answer a job."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"mmattn.inference" in (stat.parent / "cmdline").read_bytes():
                found.append(int(stat.parent.name))
        except OSError:
            continue
    return found
