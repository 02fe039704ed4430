"""The transformers library, imported when it is needed, and without its progress bars."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmattn.errors import UsageError


def transformers_library() -> Any:
    """The imported library. Raises UsageError if it is not installed."""
    try:
        return importlib.import_module("transformers")
    except ImportError:
        raise UsageError("this model needs transformers: pip install 'mmattn[encoders]'") from None


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, and no report of unused tensors."""
    logging = importlib.import_module("transformers.utils.logging")
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
