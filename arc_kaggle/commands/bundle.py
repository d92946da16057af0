"""Command `bundle`: it builds, verifies, installs and describes what a notebook without a network needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from arc_kaggle.errors import BundleError
from arc_kaggle.kaggle.bundle import installer
from arc_kaggle.kaggle.bundle.build import BuildConfig, build
from arc_kaggle.kaggle.bundle.lock import LockConfig, lock
from arc_kaggle.kaggle.bundle.verify import VerifyConfig, verify
from arc_kaggle.kaggle.bundle.weights import WeightsConfig, describe_weights


@dataclass(frozen=True, slots=True)
class InstallConfig:
    """Install a bundle into this environment without a network; the same as `python install.py` in the bundle."""

    root: Path = field(default_factory=installer.default_root)
    """Folder below which the bundle is looked for."""
    bundle: Path | None = None
    """Folder of the bundle itself, which is then not looked for."""
    without_gpu: bool = False
    """Neither check the driver of a GPU nor import what needs one."""
    uv: bool = True
    """Install by uv where it is there, which is faster than pip."""


BundleCommand = (
    Annotated[BuildConfig, tyro.conf.subcommand("build")]
    | Annotated[VerifyConfig, tyro.conf.subcommand("verify")]
    | Annotated[InstallConfig, tyro.conf.subcommand("install")]
    | Annotated[WeightsConfig, tyro.conf.subcommand("model")]
    | Annotated[LockConfig, tyro.conf.subcommand("lock")]
)


def run(config: BundleCommand) -> int:
    """Run one subcommand and say what comes of it. Raises ArcKaggleError."""
    match config:
        case BuildConfig():
            print(build(config))
        case VerifyConfig():
            print(verify(config.bundle))
        case WeightsConfig():
            print(describe_weights(config))
        case LockConfig():
            print(lock(config, date.today()))
        case InstallConfig():
            _install(config, partial(print, flush=True))
    return 0


def _install(config: InstallConfig, say: Callable[[str], None]) -> None:
    try:
        folder = config.bundle or installer.choose_bundle(config.root)
        installer.install(folder, config.without_gpu, config.uv, say)
    except installer.InstallError as error:
        raise BundleError(str(error)) from error
