"""The sandbox for code that a model wrote: right code passes, and whatever else it does comes to an end."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from arc_kaggle.system.sandbox import run_tests

TESTS = "assert double(4) == 8"
RIGHT = "import math, re, collections, itertools\ndef double(n):\n    return 2 * n"


def test_right_code_passes_and_wrong_code_says_why() -> None:
    assert run_tests(RIGHT, TESTS) == "passed"
    assert run_tests("def double(n): return n", TESTS).startswith("AssertionError")
    assert run_tests("def double(n) return n", TESTS).startswith("SyntaxError")


@pytest.mark.parametrize("leave", ["import os\nos._exit(0)", "raise SystemExit(0)", "import sys\nsys.exit()"])
def test_code_that_leaves_early_has_not_passed(leave: str) -> None:
    assert run_tests(leave, TESTS) != "passed"


@pytest.mark.parametrize(
    "endless",
    [
        "while True: pass",
        "import time\ntime.sleep(60)",
        "import signal, time\nsignal.alarm(0)\ntime.sleep(60)",
        "while True:\n  try:\n    1\n  except: pass",
    ],
)
def test_what_never_ends_is_ended(endless: str) -> None:
    begun = time.monotonic()
    assert run_tests(endless, TESTS, seconds=1) == "timeout"
    assert time.monotonic() - begun < 10


def test_memory_is_limited() -> None:
    assert run_tests("x = bytearray(2**30)", TESTS, memory_mb=256).startswith("MemoryError")


@pytest.mark.parametrize(
    "code",
    [
        "import os\nwhile True: os.fork()",
        "import os\nos.system('true')",
        "import os\nos.posix_spawn('/bin/true', ['true'], {})",
        "import subprocess\nsubprocess.run(['true'])",
        "import _posixsubprocess",
        "import ctypes",
        "import socket",
        "import os\nos.kill(os.getppid(), 9)",
        "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (99, 99))",
    ],
)
def test_processes_and_foreign_code_are_refused(code: str) -> None:
    assert run_tests(code, TESTS).startswith(("PermissionError", "ImportError", "ModuleNotFoundError"))


def test_files_are_neither_written_nor_removed(tmp_path: Path) -> None:
    victim, new = tmp_path / "victim", tmp_path / "new"
    victim.write_text("here")
    for code in (
        f"open({str(new)!r}, 'w').write('x')",
        f"open({str(victim)!r}, 'a').write('x')",
        f"import os\nos.open({str(new)!r}, os.O_CREAT | os.O_WRONLY)",
        f"import os\nos.remove({str(victim)!r})",
        f"import os\nos.rename({str(victim)!r}, {str(new)!r})",
        f"import pathlib\npathlib.Path({str(new)!r}).mkdir()",
        f"import os\nos.symlink({str(victim)!r}, {str(new)!r})",
    ):
        assert run_tests(code, TESTS).startswith("PermissionError"), code
    assert os.listdir(tmp_path) == ["victim"] and victim.read_text() == "here"


def test_what_no_event_tells_of_makes_no_file_either(tmp_path: Path) -> None:
    """Each of these makes a file where nothing stops it, and the interpreter asks no audit hook."""
    new = str(tmp_path / "new")
    for code in (
        f"import os\nos.mkfifo({new!r})",
        f"import posix\nposix.mkfifo({new!r})",
        f"import os\nos.mknod({new!r})",
        f"import readline\nreadline.write_history_file({new!r})",
        f"import tkinter\ntkinter.Tcl().eval('open {new} w')",
        f"import shelve\nshelve.open({new!r})",
        "import _posixshmem, os\n_posixshmem.shm_open('/of_the_sandbox', os.O_CREAT | os.O_RDWR)",
    ):
        assert run_tests(code + "\n" + RIGHT, TESTS) != "passed", code
    assert os.listdir(tmp_path) == [] and not Path("/dev/shm/of_the_sandbox").exists()


def test_no_signal_reaches_another_process() -> None:
    """Signal 0 does nothing, and is sent where nothing stops it."""
    code = "import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(os.getppid()), 0)\n"
    assert run_tests(code + RIGHT, TESTS).startswith("AttributeError")


def test_modules_of_the_standard_library_find_what_is_refused_absent() -> None:
    assert run_tests("import pdb, doctest, dataclasses, typing\n" + RIGHT, TESTS) == "passed"
    assert run_tests("import numpy\n" + RIGHT, TESTS).startswith("ModuleNotFoundError")


def test_files_can_be_read(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("here")
    assert run_tests(f"assert open({str(victim)!r}).read() == 'here'\n" + RIGHT, TESTS) == "passed"


def test_the_kernel_lets_no_byte_be_written_where_the_hook_does_not_look() -> None:
    code = "import os\nfd = os.memfd_create('x')\n"
    assert run_tests(code + RIGHT, TESTS) == "passed"
    assert run_tests(code + "os.write(fd, b'x')\n" + RIGHT, TESTS).startswith("OSError: [Errno 27]")
