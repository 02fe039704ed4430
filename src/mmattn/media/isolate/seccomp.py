"""The system calls that a decoder may use, as a seccomp filter (a small BPF program).

An allow-list: reading and writing open descriptors, memory, threads, clocks. Every other call, also of future kernels,
fails with EPERM. No allowed call opens, creates, names or connects anything, starts a process or a program, or reaches
another process.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # linux/audit.h; column of the tables below

# name: numbers on x86_64 and aarch64, None where there is none
_ALLOWED = {
    "read": (0, 63), "readv": (19, 65), "pread64": (17, 67), "write": (1, 64), "writev": (20, 66), "close": (3, 57),
    "lseek": (8, 62), "fstat": (5, 80), "dup": (32, 23), "sendto": (44, 206), "sendmsg": (46, 211),
    "recvfrom": (45, 207), "recvmsg": (47, 212), "shutdown": (48, 210), "getsockopt": (55, 209),
    "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72),
    "mmap": (9, 222), "munmap": (11, 215), "mremap": (25, 216), "mprotect": (10, 226), "madvise": (28, 233),
    "brk": (12, 214), "membarrier": (324, 283),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "futex": (202, 98), "set_robust_list": (273, 99), "rseq": (334, 293), "set_tid_address": (218, 96),
    "sched_yield": (24, 124), "sched_getaffinity": (204, 123), "getcpu": (309, 168),
    "getpid": (39, 172), "gettid": (186, 178), "getppid": (110, 173), "uname": (63, 160), "sysinfo": (99, 179),
    "getrusage": (98, 165), "getrlimit": (97, 163), "setrlimit": (160, 164), "times": (100, 153),
    "gettimeofday": (96, 169), "time": (201, None), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "getrandom": (318, 278),
    "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip
_CLONE, _CLONE3, _NEWFSTATAT = (56, 220), (435, 435), (262, 79)
_KILL_CALL, _TGKILL, _PRLIMIT64, _FCNTL, _IOCTL = (62, 129), (234, 131), (302, 261), (72, 25), (16, 29)
_CLONE_THREAD, _AT_EMPTY_PATH = 0x10000, 0x1000
_FCNTLS = (0, 1, 2, 3, 4, 1030)  # of descriptors and their flags; not the owner, who would get signals
_IOCTLS = (0x5421, 0x5450, 0x5451, 0x541B)  # FIONBIO, FIONCLEX, FIOCLEX, FIONREAD; none of terminals

_LOAD, _EQUAL, _ALL_SET, _RETURN = 0x20, 0x15, 0x45, 0x06  # BPF_LD|W|ABS, JMP|JEQ|K, JMP|JSET|K, RET|K
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_ARCH_AT, _NUMBER_AT, _ARGUMENTS_AT = 4, 0, 16  # in struct seccomp_data; the low word of an argument comes first

_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER, _SPEC_ALLOW = 1, 4  # without the latter, older kernels slow the process down


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def apply() -> None:
    """Restrict this thread and those it starts to these calls, permanently. Needs no_new_privs. Raises OSError."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no table of system calls for {machine}")
    code = b"".join(_filter(machine, os.getpid()))
    program = _Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    number, mode, flags = ctypes.c_long(_SECCOMP[machine]), ctypes.c_uint(_SET_MODE_FILTER), ctypes.c_uint(_SPEC_ALLOW)
    if libc.syscall(number, mode, flags, ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _filter(machine: str, pid: int) -> Iterator[bytes]:
    architecture, column = _ARCHITECTURES[machine]
    yield _do(_LOAD, _ARCH_AT)
    yield _do(_EQUAL, architecture, yes=1)
    yield _do(_RETURN, _KILL)  # with other calls of the same numbers
    yield _do(_LOAD, _NUMBER_AT)
    for numbers in _ALLOWED.values():
        if (number := numbers[column]) is not None:
            yield _do(_EQUAL, number, no=1)
            yield _do(_RETURN, _ALLOW)
    yield from _only_if(_CLONE[column], 0, _ALL_SET, (_CLONE_THREAD,))
    yield from _only_if(_NEWFSTATAT[column], 3, _ALL_SET, (_AT_EMPTY_PATH,))  # fstat in newer C libraries
    yield from _only_if(_TGKILL[column], 0, _EQUAL, (pid,))  # abort()
    yield from _only_if(_KILL_CALL[column], 0, _EQUAL, (pid,))
    yield from _only_if(_PRLIMIT64[column], 0, _EQUAL, (0, pid))
    yield from _only_if(_FCNTL[column], 1, _EQUAL, _FCNTLS)
    yield from _only_if(_IOCTL[column], 1, _EQUAL, _IOCTLS)
    yield _do(_EQUAL, _CLONE3[column], no=1)  # whose arguments lie in memory, which a filter cannot read:
    yield _do(_RETURN, _ERRNO | errno.ENOSYS)  # the C library then uses clone
    yield _do(_RETURN, _ERRNO | errno.EPERM)


def _only_if(number: int, argument: int, test: int, values: tuple[int, ...]) -> Iterator[bytes]:
    """Allow a call if its argument passes the test with one of the values."""
    yield _do(_EQUAL, number, no=2 + 2 * len(values))
    yield _do(_LOAD, _ARGUMENTS_AT + 8 * argument)
    for value in values:
        yield _do(test, value, no=1)
        yield _do(_RETURN, _ALLOW)
    yield _do(_RETURN, _ERRNO | errno.EPERM)


def _do(code: int, operand: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, operand)
