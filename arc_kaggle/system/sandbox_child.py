"""The child process of the sandbox: it limits itself, then runs code that nobody has read. Standard library only.

It is started as a file (`python -I -S`), reads one JSON object from stdin, and answers with its secret on a pipe.
"""

import json
import os
import resource
import signal
import sys

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
REFUSED = {
    *("os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.kill", "os.killpg"),
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown"),
    *("os.utime", "os.setxattr", "os.removexattr", "os.chflags"),
    *("resource.setrlimit", "resource.prlimit", "pty.spawn", "sqlite3.connect"),
}
REFUSED_KINDS = ("subprocess.", "socket.", "ctypes.", "shutil.", "ftplib.", "urllib.", "http.", "tempfile.", "syslog.")
REFUSED_MODULES = {
    *("_posixsubprocess", "ctypes", "_ctypes", "_socket", "multiprocessing", "_multiprocessing"),
    *("readline", "_gdbm", "_dbm", "_tkinter", "_posixshmem"),  # they make files without an event
}
TAKEN_AWAY = ("mkfifo", "mknod", "chroot", "setns", "unshare", "setpriority", "sched_setaffinity", "pidfd_send_signal")
"""Functions of os and signal that raise no event: what makes files, and what reaches other processes."""


def refuse(event: str, arguments: tuple) -> None:  # type: ignore[type-arg]
    """An audit hook: processes, sockets and writing end in a PermissionError, foreign code in an ImportError."""
    writes = event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & WRITING)
    if event == "import" and arguments[0] in REFUSED_MODULES:
        raise ImportError(f"sandbox: {arguments[0]} is not allowed", name=arguments[0])
    if writes or event in REFUSED or event.startswith(REFUSED_KINDS):
        raise PermissionError(f"sandbox: {event} {str(arguments[:1])[:100]} is not allowed")


def take_away() -> None:
    """Remove the functions that no audit event tells of, where they are made and where they are named again."""
    for module in (os, sys.modules["posix"], signal, sys.modules["_signal"]):
        for name in TAKEN_AWAY:
            module.__dict__.pop(name, None)


def limit(seconds: float, memory_bytes: int) -> None:
    """Hard limits of the kernel, which hold whatever the code does."""
    cpu = max(1, round(seconds))
    limits = {"CPU": cpu + 1, "AS": memory_bytes, "DATA": memory_bytes, "FSIZE": 0, "CORE": 0, "NPROC": 1, "NOFILE": 64}
    for name, most in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}", None)
        if kind is not None:
            hard = resource.getrlimit(kind)[1]
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            soft = max(0, most - 1) if name == "CPU" else most  # at the soft one the signal says why
            try:
                resource.setrlimit(kind, (soft, most))
            except (ValueError, OSError):  # a system that does not have this one
                continue
    signal.alarm(cpu + 1)


def main() -> None:
    job = json.loads(sys.stdin.read())
    answer = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    limit(job["seconds"], job["memory_bytes"])
    take_away()
    sys.addaudithook(refuse)
    names = {"__name__": "answer"}
    try:
        exec(compile(job["code"], "<answer>", "exec"), names)
        exec(compile(job["tests"], "<tests>", "exec"), names)
        said = "passed"
    except BaseException as error:  # code may raise anything, SystemExit among it
        said = f"{type(error).__name__}: {error}"[:200]
    os.write(answer, f"{job['secret']} {said}".encode(errors="replace"))
    os._exit(0)


if __name__ == "__main__":
    main()
