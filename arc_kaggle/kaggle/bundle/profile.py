"""Profiles: for which Python and image a bundle is, what it takes from the image, and where its lock lies."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from packaging.tags import Tag, compatible_tags, cpython_tags

from arc_kaggle.errors import BundleError

CHECKOUT = Path(__file__).resolve().parents[3]
"""Where the project lies when it runs from a checkout; a bundle is built from one."""
HERE = "here"
PINNED_IMAGE = (
    "gcr.io/kaggle-private-byod/python@sha256:37c64f7dd9c54116ecd1bcc88817c5469b88387388fade02bfa8bf3fc647d461"
)
"""Kaggle's GPU image with Python 3.12 and torch 2.10, as kernel-metadata.json names it."""
OLD_GLIBC = {
    "x86_64": (5, {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}),
    "aarch64": (17, {17: "manylinux2014"}),
}
"""By machine: the minor version of the first glibc 2.x that wheels name, and the names of wheels before PEP 600."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One target of a bundle. What it asks for is in wheels/NAME.in, what it gets in wheels/NAME.txt."""

    name: str
    title: str
    """What is in it, in half a line."""
    python: str
    """Version of CPython, such as 3.12."""
    imports: tuple[str, ...]
    """Packages that must be importable once it is installed."""
    gpu_imports: tuple[str, ...] = ()
    """Those of them that cannot be imported without a GPU."""
    image: str = ""
    """The docker image it is for; empty where it is not for one alone."""
    freeze: str = ""
    """File in wheels/ with what that image holds; versions of a lock stay with it where they can."""
    keeps: Mapping[str, str] = field(default_factory=dict)
    """Packages that stay the image's, with their versions; one without a local part (+cu128) takes any build."""
    removes: tuple[str, ...] = ()
    """Packages of the image that break others and go."""
    driver: int = 0
    """Major version of the oldest NVIDIA driver that will do; 0 where none is needed."""
    tested: str = ""
    """Where and how its lock was tried out; empty where it was not."""
    glibc: str = "2.35"
    machine: str = "x86_64"

    @property
    def platforms(self) -> list[str]:
        """Platform tags of wheels that run there, newest glibc first."""
        first, names = OLD_GLIBC[self.machine]
        newest = int(self.glibc.split(".")[1])
        tags = []
        for minor in range(newest, first - 1, -1):
            tags += [f"manylinux_2_{minor}_{self.machine}"]
            tags += [f"{names[minor]}_{self.machine}"] if minor in names else []
        return [*tags, f"linux_{self.machine}"]

    @property
    def abi(self) -> str:
        return "cp" + self.python.replace(".", "")

    @property
    def tags(self) -> list[Tag]:
        """Tags of wheels that run there, best first."""
        major, minor = map(int, self.python.split("."))
        own = cpython_tags((major, minor), [self.abi], self.platforms)
        return [*own, *compatible_tags((major, minor), self.abi, self.platforms)]


TORCH_210 = {"torch": "2.10.0+cu128", "torchvision": "0.25.0+cu128", "torchaudio": "2.10.0+cu128", "triton": "3.6.0"}
SMALL = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "arc_kaggle")
LARGE = (*SMALL, "trl", "vllm", "unsloth")
ON_GPU = ("vllm", "unsloth")

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "kaggle-py312",
            "vLLM and Unsloth on the image's torch 2.10",
            "3.12",
            LARGE,
            ON_GPU,
            image=PINNED_IMAGE,
            freeze="image-py312.txt",
            keeps=TORCH_210,
            driver=525,
        ),
        Profile("self-py312", "vLLM, Unsloth and torch 2.13, Python 3.12", "3.12", LARGE, ON_GPU, driver=580),
        Profile("self-py313", "vLLM, Unsloth and torch 2.13, Python 3.13", "3.13", LARGE, ON_GPU, driver=580),
        Profile(
            "small-py312",
            "transformers and peft, Python 3.12",
            "3.12",
            SMALL,
            image=PINNED_IMAGE,
            freeze="image-py312.txt",
            keeps={"torch": "2.10.0"},
            removes=("torchao",),
        ),
        Profile(
            "small-py313",
            "transformers and peft, Python 3.13",
            "3.13",
            SMALL,
            freeze="image-py313.txt",
            keeps={"torch": "2.11.0"},
            removes=("torchao",),
        ),
    )
}
"""torchao 0.10 of the image makes peft raise. vLLM from 0.20 on links CUDA 13, which asks for driver 580."""


def find_profile(name: str) -> Profile:
    """The profile of a name; `here` is this interpreter on this machine, torch included. Raises BundleError."""
    if name == HERE:
        return _here()
    if name not in PROFILES:
        known = [*PROFILES, HERE]
        nearest = get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise BundleError(f"profile {name!r}: no such profile, expected one of {', '.join(known)}; nearest: {nearest}")
    return PROFILES[name]


def _here() -> Profile:
    libc, glibc = platform.libc_ver()
    python, machine = ".".join(map(str, sys.version_info[:2])), platform.machine()
    if libc != "glibc" or machine not in OLD_GLIBC:
        raise BundleError(
            f"profile {HERE}: found {platform.system()} on {machine}, expected Linux with glibc on "
            f"{' or '.join(OLD_GLIBC)}; name the profile of the machine that the bundle is for"
        )
    imports = ("torch", "transformers", "peft", "arc_kaggle")
    return Profile(HERE, f"Python {python} on {machine}", python, imports, glibc=glibc, machine=machine)
