"""What tests of inference share: a reader in a process of its own. Helper modules beside this file can be imported."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mmattn.media.isolate.reader import IsolatedReader


@pytest.fixture(scope="module")
def reader() -> Iterator[IsolatedReader]:
    """One decoding process for a whole module."""
    with IsolatedReader() as opened:
        yield opened
