"""What hardware is read as, from files of a system that is made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from arc_kaggle.system.hardware import available_memory, memory_ceiling

MEMINFO = {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  5 kB\n"}
V2 = {"memory.max": "3000\n", "memory.current": "1000", "memory.stat": "anon 1\ninactive_file 200\n"}
V1 = {
    "memory.limit_in_bytes": "2000",
    "memory.usage_in_bytes": "1000",
    "memory.stat": "inactive_file 1\ntotal_inactive_file 300\n",
}


def system(folder: Path, own_group: str, groups: dict[str, dict[str, str]]) -> Path:
    files = MEMINFO | {"proc/self/cgroup": own_group}
    files |= {f"sys/fs/cgroup/{group}/{name}": text for group, of in groups.items() for name, text in of.items()}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("own_group", "groups", "available", "granted"),
    [
        ("", {}, 5 * 1024, 5 * 1024),
        ("0::/\n", {"": V2}, 2200, 3000),
        ("0::/\n", {"": V2 | {"memory.max": "max\n"}}, 5 * 1024, 5 * 1024),
        ("0::/a/b\n", {"a/b": V2, "a": V2 | {"memory.max": "1100", "memory.stat": ""}}, 100, 1100),
        ("4:memory:/\n0::/\n", {"memory": V1}, 1300, 2000),
        ("4:memory:/\n", {"memory": V1 | {"memory.limit_in_bytes": "9223372036854771712"}}, 5 * 1024, 5 * 1024),
    ],
    ids=["machine", "cgroup 2", "cgroup 2 without a limit", "a group above", "cgroup 1", "cgroup 1 without a limit"],
)
def test_memory_is_the_least_of_machine_and_cgroups(
    own_group: str, groups: dict[str, dict[str, str]], available: int, granted: int, tmp_path: Path
) -> None:
    """What a process may still take is what is left of a limit; cached files that can be dropped count as left."""
    root = system(tmp_path, own_group, groups)
    assert available_memory(root) == available
    assert memory_ceiling(root) == pytest.approx(0.9 * granted)


def test_where_the_system_says_nothing_all_memory_is_available(tmp_path: Path) -> None:
    assert available_memory(tmp_path) > 2**28
