"""Processes that start warm: forked from one that has imported torch and Lightning and has done nothing else.

Imports are most of what a short program costs (6 of 7 s CPU of a process that trains on 24 clips). `Popen` starts
`python -m mmattn...`, `-c CODE` and `SCRIPT` so, and what these start too, with their own pid, environment, folder,
session and exit code; every other command is started as ever. What a process is called (/proc/PID/cmdline) and who its
parent is are not as they would be: tests of these start theirs cold.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

IMPORTED = (
    *("lightning.pytorch", "torch.distributed.fsdp", "torch.distributed.tensor.parallel", "wandb"),
    *("mmattn.cli.main", "mmattn.training.run.train"),
    *("hydra", "mmattn.config.overrides", "mmattn.encoders.tiny", "mmattn.fusion.cross"),
    "mmattn.attention.exact.dense",
)
MOST_FDS, MOST_BYTES = 64, 1 << 18
CUSTOM = "sitecustomize.py"
COLD = subprocess.Popen


def program_of(command: object) -> list[str] | None:
    """The module (`-m NAME`), code (`-c CODE`) or script of a Python command with its arguments; None for any other."""
    if not isinstance(command, list | tuple) or str(command[0]) != sys.executable:
        return None
    words = [os.fspath(word) for word in command[1:]]
    while words and words[0] in ("-P", "-u"):
        words.pop(0)
    of_ours = words[:1] == ["-m"] and words[1].startswith("mmattn")
    return words if of_ours or (words and (words[0] == "-c" or words[0].endswith(".py"))) else None


def read_at_start(env: Mapping[str, str]) -> dict[str, str]:
    """What Python reads of its environment when it starts."""
    return {name: value for name, value in env.items() if name.startswith(("PYTHON", "LC_", "LANG", "LD_"))}


def added(env: Mapping[str, str], to: Mapping[str, str]) -> list[str] | None:
    """The folders that `env` puts before the path of `to`, each with nothing but a sitecustomize.py; None where the two
    differ by anything else that Python reads when it starts."""
    here, there = read_at_start(env), read_at_start(to)
    path, known = (each.pop("PYTHONPATH", "").strip(":") for each in (here, there))
    folders = [folder for folder in path.removesuffix(known).split(":") if folder]
    alone = all([file.name for file in Path(folder).iterdir() if file.is_file()] == [CUSTOM] for folder in folders)
    return folders if here == there and path.endswith(known) and alone else None


class Source:
    """The process that the others are forked from; one for each that tests run in."""

    def __init__(self, asks: socket.socket, env: Mapping[str, str]) -> None:
        self.asks, self.env = asks, dict(env)

    @classmethod
    @contextmanager
    def started(cls, env: Mapping[str, str] = os.environ) -> Iterator[Source]:
        asks, answers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with asks, answers:
            fds = (asks.fileno(), answers.fileno())
            command = [sys.executable, __file__, *map(str, fds)]
            with COLD(command, env=env, pass_fds=fds, stdin=subprocess.PIPE):  # whose end it ends with
                yield cls(asks, env)

    def fork(self, request: dict[str, Any], fds: Sequence[int]) -> tuple[int, int]:
        """The pid of the new process, and a file that will say how it ended."""
        status, told = os.pipe()
        try:
            socket.send_fds(self.asks, [json.dumps(request).encode()], [told, *fds])
        finally:
            os.close(told)
        return int(os.read(status, 16)), status


class Popen(subprocess.Popen):
    """subprocess.Popen, warm where it can be."""

    source: Source
    _status: int | None = None

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest) -> None:
        env = os.environ if env is None else env
        program = None if executable or preexec_fn else program_of(args)
        folders = None if program is None else added(env, self.source.env)
        if folders is None:
            super()._execute_child(args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest)
            return
        pipes, new_session = rest[3:9], rest[-2]  # (read, write) of stdin, stdout and stderr; -1 for none
        request = {
            "program": program,
            "env": dict(env),
            "folders": folders,
            "cwd": os.fspath(cwd or Path.cwd()),
            "session": bool(new_session),
            "numbers": [0, 1, 2, *pass_fds],
        }
        streams = [own if end == -1 else end for own, end in enumerate((pipes[0], pipes[3], pipes[5]))]
        self.pid, self._status = self.source.fork(request, [*streams, *pass_fds])
        self._child_created = True
        self._close_pipe_fds(*pipes)

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if self._status is None:
            return super()._try_wait(wait_flags)
        os.set_blocking(self._status, not wait_flags & os.WNOHANG)
        try:
            said = os.read(self._status, 16)
        except BlockingIOError:
            return 0, 0
        os.close(self._status)
        return self.pid, int(said or signal.SIGKILL)  # nothing said: its keeper was killed

    def _internal_poll(self, _deadstate: int | None = None, **known: Any) -> int | None:
        if self._status is None or self.returncode is not None:
            return super()._internal_poll(_deadstate, **known)
        pid, status = self._try_wait(os.WNOHANG)
        if pid == self.pid:
            self._handle_exitstatus(status)
        return self.returncode


def main() -> None:
    """Answers requests until its standard input ends. Three processes return from it: it, and each that it forks
    and forks again, of which one becomes the program and one says how that ended."""
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the programs
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that say how one ended are not waited for
    asks, answers = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
    Popen.source = Source(asks, os.environ)  # what a program starts is warm too
    while True:
        if sys.stdin in select.select([answers, sys.stdin], [], [])[0]:
            return
        message, fds, *_ = socket.recv_fds(answers, MOST_BYTES, MOST_FDS)
        if os.fork() == 0:
            break
        for fd in fds:
            os.close(fd)
    answers.close()
    told, *given = fds
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if program := os.fork():
        for fd in given:
            os.close(fd)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(told, b"%16d" % program)
        os.write(told, b"%16d" % os.waitpid(program, 0)[1])
        os._exit(0)
    os.close(told)
    become(json.loads(message), given)


def become(request: dict[str, Any], fds: Sequence[int]) -> None:
    """Run the program of a request, with its environment, folder, session and files."""
    apart = [fcntl.fcntl(fd, fcntl.F_DUPFD, 200) for fd in fds]
    for fd in fds:
        os.close(fd)
    for fd, number in zip(apart, request["numbers"], strict=True):
        os.dup2(fd, number)
        os.close(fd)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        was = getattr(sys, name)
        setattr(sys, name, open(number, mode, encoding=was.encoding, errors=was.errors, closefd=False))  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    subprocess.Popen = Popen  # type: ignore[misc]
    program = request["program"]
    sys.orig_argv = [sys.executable, *program]
    for folder in request["folders"]:
        runpy.run_path(f"{folder}/{CUSTOM}")
    if program[0] == "-m":
        sys.path[0], sys.argv = request["cwd"], program[1:]
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    elif program[0] == "-c":
        sys.path[0], sys.argv = "", ["-c", *program[2:]]
        exec(compile(program[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.path[0], sys.argv = str(Path(program[0]).parent.absolute()), program
        runpy.run_path(program[0], run_name="__main__")


if __name__ == "__main__":
    main()
