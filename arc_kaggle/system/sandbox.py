"""Runs code that a model wrote against its tests, in a child process with limits on time, memory and what it may do.

The child has a session of its own, an empty folder to work in, no environment, and hard limits of the kernel on CPU
seconds, memory, file sizes and open files. An audit hook of the interpreter refuses processes, sockets, foreign code
and every change of a file; what raises no event for it is taken away. The code sees Python's standard library alone, no
installed package. The parent kills the whole process group when the time is up.

This stops what models write by mistake. It does not stop somebody who attacks it: files can be read, an audit hook can
be got round by code that knows how, and the limits are those of the user who runs it (on Linux the limit on processes
does not bind root). Where that matters, run the whole command in a container or a virtual machine.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from arc_kaggle.errors import ConfigError

CHILD = Path(__file__).with_name("sandbox_child.py")
MB = 2**20


def check_system() -> None:
    """Raise ConfigError on a system without limits for processes."""
    if os.name != "posix":
        raise ConfigError(
            f"option score: found code on {sys.platform}, expected a POSIX system, which limits processes"
        )


def run_tests(code: str, tests: str, seconds: float = 5.0, memory_mb: int = 512) -> str:
    """`passed`, or in a few words why not: the exception, `timeout`, or how the process ended.

    An answer counts as passed only where the child says so with a secret that it was told, so that code which leaves
    early has not passed. Raises ConfigError where `check_system` does.
    """
    check_system()
    secret = secrets.token_hex(16)
    job = {"code": code, "tests": tests, "seconds": seconds, "memory_bytes": memory_mb * MB, "secret": secret}
    with tempfile.TemporaryDirectory() as folder:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={},
            start_new_session=True,
        )
        try:
            printed, _ = child.communicate(json.dumps(job).encode(), timeout=seconds + 2)
        except subprocess.TimeoutExpired:
            return "timeout"
        finally:
            _kill(child)
    said = printed.decode(errors="replace")
    if said.startswith(secret):
        return said[len(secret) + 1 :]
    return "timeout" if child.returncode in (-signal.SIGXCPU, -signal.SIGALRM) else f"ended with {child.returncode}"


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End the child and all of its process group, and collect it."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe:
            pipe.close()
