"""Landlock (Linux since 5.13): this process opens no further file, whatever the rights of its user."""

from __future__ import annotations

import ctypes
import os

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # on every architecture
_ASK_VERSION = 1
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}  # number of rights since this version
_NETWORK_RIGHTS, _SCOPES = 0b11, 0b11  # bind, connect; abstract sockets, signals


def apply() -> None:
    """Restrict every right that this kernel knows, and grant none. Needs no_new_privs. Raises OSError."""
    version = _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_ASK_VERSION))
    rights = _FILE_RIGHTS[max(since for since in _FILE_RIGHTS if since <= version)]
    words = [(1 << rights) - 1]
    if version >= 4:
        words.append(_NETWORK_RIGHTS)
    if version >= 6:
        words.append(_SCOPES)
    rules = (ctypes.c_uint64 * len(words))(*words)
    ruleset = _call(_CREATE_RULESET, rules, ctypes.c_size_t(ctypes.sizeof(rules)), ctypes.c_uint(0))
    try:
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0))
    finally:
        os.close(ruleset)


def _call(number: int, *arguments: object) -> int:
    result = ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
