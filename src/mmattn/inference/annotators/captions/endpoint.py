"""A language model behind an OpenAI-compatible address, such as a vLLM server: chat completions with images and audio.

Frames are sent as JPEG and audio as WAV in data URLs, as vLLM documents multimodal inputs. Redirects are not followed,
and proxies are not used for addresses of this machine.
"""

from __future__ import annotations

import base64
import io
import json
import os
import time
import urllib.error
import urllib.request
import wave
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from mmattn.encoders.pretrained.yamnet.network import RATE
from mmattn.errors import MmattnError, UsageError
from mmattn.inference.annotators.captions.language_model import LanguageModel
from mmattn.inference.annotators.captions.requirements import is_loopback
from mmattn.inference.annotators.captions.spans import CaptionSpan
from mmattn.types import MODALITIES, Modality

_RETRY = (408, 429, 500, 502, 503, 504)  # status codes after which a request is repeated
_WAIT_S = 0.5  # before the first repetition, doubled for each further one
_JPEG_QUALITY = 90


class EndpointModel(LanguageModel):
    """A model of a server. `endpoint`: its address up to /v1. `model`: None for the first that it lists.

    `key_env`: the environment variable with the key.
    """

    modalities: tuple[Modality, ...] = MODALITIES

    def __init__(
        self,
        endpoint: str,
        *,
        model: str | None,
        max_tokens: int,
        timeout_s: float,
        retries: int,
        at_once: int,
        key_env: str | None = None,
    ) -> None:
        """`at_once`: parallel requests. Raises UsageError if no server answers."""
        self._endpoint, self._max_tokens, self._at_once = endpoint.rstrip("/"), max_tokens, at_once
        self._timeout_s, self._retries = timeout_s, retries
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key_env is not None:
            self._headers["Authorization"] = f"Bearer {os.environ.get(key_env, '')}"
        direct = [urllib.request.ProxyHandler({})] if is_loopback(endpoint) else []
        self._opener = urllib.request.build_opener(_NoRedirect, *direct)
        self.model = model or self._first_model()
        self.version = f"{self.model} by chat completions"

    def describe(self, spans: Sequence[CaptionSpan], prompt: str) -> list[str]:
        requests = [[*_parts(span), {"type": "text", "text": prompt}] for span in spans]
        with ThreadPoolExecutor(self._at_once) as pool:
            return list(pool.map(self._complete, requests))

    def answer(self, prompt: str) -> str:
        return self._complete(prompt)

    def _complete(self, content: Any) -> str:
        reply = self._request(
            "chat/completions",
            {
                "model": self.model,
                "messages": [{"role": "user", "content": content}],
                "max_tokens": self._max_tokens,
                "temperature": 0,
                "seed": 0,
            },
        )
        try:
            return " ".join(str(reply["choices"][0]["message"]["content"] or "").split())
        except (KeyError, IndexError, TypeError):
            raise MmattnError(f"{self._endpoint}: the answer has no choices[0].message.content") from None

    def _first_model(self) -> str:
        try:
            return str(self._request("models", None)["data"][0]["id"])
        except (KeyError, IndexError, TypeError):
            raise UsageError(f"captions.endpoint={self._endpoint}: lists no model; set captions.model=") from None
        except MmattnError as error:
            raise UsageError(f"captions.endpoint={error}; start the server, or set captions.pretrained=") from None

    def _request(self, path: str, body: dict[str, Any] | None) -> Any:
        """The JSON of an answer. Raises MmattnError if there is none after all retries."""
        data = None if body is None else json.dumps(body).encode()
        reason = ""
        for attempt in range(self._retries + 1):
            if attempt:
                time.sleep(_WAIT_S * 2 ** (attempt - 1))
            request = urllib.request.Request(f"{self._endpoint}/{path}", data, self._headers)
            try:
                with self._opener.open(request, timeout=self._timeout_s) as answer:
                    return json.loads(answer.read())
            except urllib.error.HTTPError as error:
                reason = f"HTTP {error.code}: {_message(error)}"
                if error.code not in _RETRY:
                    break
            except (OSError, ValueError) as error:  # no connection, a timeout, no JSON
                reason = str(getattr(error, "reason", None) or error) or type(error).__name__
        raise MmattnError(f"{self._endpoint}/{path}: no answer ({' '.join(reason.split())[:200]})")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Treats a redirect as an error."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        return None


def _parts(span: CaptionSpan) -> list[dict[str, Any]]:
    frames = [] if span.frames is None else list(span.frames)
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": _url("image/jpeg", _jpeg(frame))}} for frame in frames
    ]
    if span.waveform is not None:
        parts.append({"type": "audio_url", "audio_url": {"url": _url("audio/wav", _wav(span.waveform))}})
    return parts


def _url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _jpeg(frame: Tensor) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(frame.permute(1, 2, 0).numpy())).save(buffer, "jpeg", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def _wav(waveform: Tensor) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((waveform.clamp(-1, 1) * 32767).round().to("cpu").numpy().astype("<i2").tobytes())
    return buffer.getvalue()


def _message(error: urllib.error.HTTPError) -> str:
    """The server's error message as OpenAI's interface has it, else the standard phrase."""
    try:
        reply = json.loads(error.read())
        return str((reply.get("error") or reply)["message"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return str(error.reason)
