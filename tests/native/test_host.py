"""How many threads a process gets by default, on fake trees of /proc and /sys."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from forwardpass import _native

CPUS = list(range(8))
V2 = "31 23 0:38 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "33 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct"


class Tree:
    """A fake file system under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def proc(self, cgroup: str, *mounts: str) -> None:
        self.write("/proc/self/cgroup", cgroup + "\n")
        other = "22 1 254:0 / / rw,relatime - ext4 /dev/root rw,cpu"
        self.write("/proc/self/mountinfo", "\n".join((other, *mounts)) + "\n")

    def v1_quota(self, folder: str, quota: object, period: object = 100000) -> None:
        self.write(f"{folder}/cpu.cfs_quota_us", f"{quota}\n")
        self.write(f"{folder}/cpu.cfs_period_us", f"{period}\n")

    def siblings(self, *lists: str) -> None:
        for cpu, text in enumerate(lists):
            self.write(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", f"{text}\n")

    def detect(self, affinity: list[int] = CPUS) -> dict[str, Any]:
        host: dict[str, Any] = _native.detect_host(str(self.root), affinity)
        return host


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_nothing_to_read_means_no_limit(tree: Tree) -> None:
    host = tree.detect()
    assert host["quota"] <= 0
    assert host["quota_source"] == ""
    assert (host["threads"], host["physical_cores"]) == (8, 8)
    assert host["affinity_cpus"] == CPUS
    assert host["reason"] == "affinity mask of 8 CPUs"


@pytest.mark.parametrize(
    ("cpu_max", "quota", "threads"),
    [
        ("max 100000", 0, 8),
        ("300000 100000", 3, 3),
        ("150000 100000", 1.5, 1),
        ("399999 100000", 3.99999, 3),
        ("50000 100000", 0.5, 1),
        ("1000 1000000", 0.001, 1),
        ("1600000 100000", 16, 8),
        ("9000000000000000000 1", 9e18, 8),
    ],
)
def test_v2_quota(tree: Tree, cpu_max: str, quota: float, threads: int) -> None:
    tree.proc("0::/app", V2)
    tree.write("/sys/fs/cgroup/app/cpu.max", cpu_max + "\n")
    host = tree.detect()
    assert max(host["quota"], 0) == quota
    assert host["threads"] == threads


def test_the_reason_names_the_quota_and_its_file(tree: Tree) -> None:
    tree.proc("0::/app", V2)
    tree.write("/sys/fs/cgroup/app/cpu.max", "150000 100000\n")
    host = tree.detect()
    assert host["quota_source"] == str(tree.root / "sys/fs/cgroup/app/cpu.max")
    assert host["reason"] == f"cgroup quota of 1.5 CPUs ({host['quota_source']})"


@pytest.mark.parametrize("tightest", ["", "/kubepods", "/kubepods/pod1", "/kubepods/pod1/box"])
def test_v2_the_smallest_quota_on_the_way_up_wins(tree: Tree, tightest: str) -> None:
    tree.proc("0::/kubepods/pod1/box", V2)
    for folder in ("", "/kubepods", "/kubepods/pod1", "/kubepods/pod1/box"):
        limit = "200000 100000" if folder == tightest else "500000 100000"
        tree.write(f"/sys/fs/cgroup{folder}/cpu.max", limit + "\n")
    tree.write("/sys/fs/cgroup/kubepods/pod2/cpu.max", "100000 100000\n")  # a neighbour's
    host = tree.detect()
    assert (host["quota"], host["threads"]) == (2, 2)
    assert host["quota_source"] == f"{tree.root}/sys/fs/cgroup{tightest}/cpu.max"


def test_v2_without_a_cgroup_namespace_the_mount_shows_the_containers_own_cgroup(tree: Tree) -> None:
    # The path in /proc/self/cgroup starts at the host's root, the mount at the container's cgroup.
    tree.proc("0::/docker/abc/worker", V2.replace(" / /sys", " /docker/abc /sys"))
    tree.write("/sys/fs/cgroup/cpu.max", "400000 100000\n")
    tree.write("/sys/fs/cgroup/worker/cpu.max", "200000 100000\n")
    assert tree.detect()["threads"] == 2


@pytest.mark.parametrize("path", ["/docker/abc", "/docker/abcdef", "/../sibling", "/docker/abc/../../x"])
def test_v2_a_path_that_the_mount_does_not_show_falls_back_to_the_mount(tree: Tree, path: str) -> None:
    tree.proc(f"0::{path}", V2.replace(" / /sys", " /docker/abcd /sys"))
    tree.write("/sys/fs/cgroup/cpu.max", "200000 100000\n")
    tree.write("/sys/fs/cgroup/ef/cpu.max", "100000 100000\n")
    tree.write("/sys/fs/sibling/cpu.max", "100000 100000\n")
    assert tree.detect()["threads"] == 2


def test_v2_a_cgroup_that_is_gone_still_obeys_its_parents(tree: Tree) -> None:
    tree.proc("0::/pod/gone (deleted)", V2)
    tree.write("/sys/fs/cgroup/pod/cpu.max", "300000 100000\n")
    assert tree.detect()["threads"] == 3


@pytest.mark.parametrize(
    ("quota", "period", "threads"),
    [(-1, 100000, 8), (250000, 100000, 2), (30000, 20000, 1), (10000, 100000, 1), (0, 100000, 8), (1, 0, 8)],
)
def test_v1_quota(tree: Tree, quota: int, period: int, threads: int) -> None:
    tree.proc("5:cpuset:/x\n4:cpu,cpuacct:/app\n1:name=systemd:/y", V1)
    tree.v1_quota("/sys/fs/cgroup/cpu,cpuacct/app", quota, period)
    assert tree.detect()["threads"] == threads


def test_v1_nested(tree: Tree) -> None:
    tree.proc("4:cpuacct,cpu:/pod/box", V1)
    tree.v1_quota("/sys/fs/cgroup/cpu,cpuacct", -1)
    tree.v1_quota("/sys/fs/cgroup/cpu,cpuacct/pod", 350000)
    tree.v1_quota("/sys/fs/cgroup/cpu,cpuacct/pod/box", 700000)
    host = tree.detect()
    assert (host["quota"], host["threads"]) == (3.5, 3)
    assert host["quota_source"].endswith("/pod/cpu.cfs_quota_us")


def test_v1_controllers_are_compared_as_whole_names(tree: Tree) -> None:
    # cpuset and cpuacct are not cpu, neither in /proc/self/cgroup nor in the mount options.
    tree.proc("3:cpuset:/a\n2:cpuacct:/a", V1.replace("rw,cpu,cpuacct", "rw,cpuset"), V1.replace("rw,cpu,", "rw,"))
    tree.v1_quota("/sys/fs/cgroup/cpu,cpuacct/a", 100000)
    assert tree.detect()["threads"] == 8


def test_hybrid_reads_the_cpu_controller_where_it_is(tree: Tree) -> None:
    unified = V2.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified ")
    tree.proc("4:cpu,cpuacct:/app\n0::/app", unified, V1)
    tree.v1_quota("/sys/fs/cgroup/cpu,cpuacct/app", 200000)
    (tree.root / "sys/fs/cgroup/unified/app").mkdir(parents=True)  # v2 has the tree but not the controller
    host = tree.detect()
    assert (host["quota"], host["threads"]) == (2, 2)


def test_both_hierarchies_the_smaller_wins(tree: Tree) -> None:
    tree.proc("4:cpu,cpuacct:/app\n0::/app", V2.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified "), V1)
    tree.v1_quota("/sys/fs/cgroup/cpu,cpuacct/app", 500000)
    tree.write("/sys/fs/cgroup/unified/app/cpu.max", "400000 100000")
    assert tree.detect()["threads"] == 4


def test_mount_points_are_unescaped(tree: Tree) -> None:
    tree.proc("0::/app", V2.replace("/sys/fs/cgroup", r"/odd\040place\134"))
    tree.write("/odd place\\/app/cpu.max", "200000 100000\n")
    assert tree.detect()["threads"] == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "garbage",
        "max",
        "200000",
        "-1 100000",
        "2 0",
        "2 -5",
        "1e5 1",
        "2 1 1",
        "\0 1",
        "2\t1",
        "nan 1",
    ],
)
def test_a_cpu_max_that_makes_no_sense_is_no_limit(tree: Tree, text: str) -> None:
    tree.proc("0::/app", V2)
    tree.write("/sys/fs/cgroup/app/cpu.max", text)
    host = tree.detect()
    assert (host["threads"], host["quota_source"]) == (8, "")


@pytest.mark.parametrize("text", ["", "::::", "0:", ":::", "no colons\n0", "x" * 100_000, "0::", "0::relative"])
def test_a_cgroup_file_that_makes_no_sense_is_no_error(tree: Tree, text: str) -> None:
    tree.proc(text, V2, V1)
    assert tree.detect()["threads"] == 8


@pytest.mark.parametrize("text", ["", " - - - ", "31 23 0:38 / /x rw -", "- cgroup2 cgroup2 rw", "\\ \\0 \\08 - a b c"])
def test_a_mountinfo_that_makes_no_sense_is_no_error(tree: Tree, text: str) -> None:
    tree.proc("0::/app", text)
    tree.write("/sys/fs/cgroup/app/cpu.max", "200000 100000\n")
    assert tree.detect()["threads"] == 8


def test_a_folder_in_place_of_a_file_is_no_error(tree: Tree) -> None:
    tree.proc("0::/app", V2)
    (tree.root / "sys/fs/cgroup/app/cpu.max").mkdir(parents=True)
    assert tree.detect()["threads"] == 8


def test_a_missing_v1_period_is_no_limit(tree: Tree) -> None:
    tree.proc("4:cpu,cpuacct:/app", V1)
    tree.write("/sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_quota_us", "100000\n")
    assert tree.detect()["threads"] == 8


def test_hardware_threads_of_one_core_count_once(tree: Tree) -> None:
    tree.siblings("0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7")
    host = tree.detect()
    assert (host["physical_cores"], host["threads"]) == (4, 4)
    assert host["reason"] == "4 physical cores under the affinity mask"


def test_cores_are_those_under_the_affinity_mask(tree: Tree) -> None:
    tree.siblings("0-1", "0-1", "2-3", "2-3", "4-5", "4-5", "6-7", "6-7")
    assert tree.detect([0, 1])["physical_cores"] == 1
    assert tree.detect([1, 2])["physical_cores"] == 2
    assert tree.detect([5, 4, 1, 5])["affinity_cpus"] == [1, 4, 5]
    assert tree.detect([5, 4, 1, 5])["threads"] == 2


def test_a_cpu_with_unreadable_topology_is_a_core(tree: Tree) -> None:
    tree.siblings("0-1", "0-1", "", "garbage")
    assert tree.detect()["physical_cores"] == 7


@pytest.mark.parametrize(
    ("quota", "affinity", "threads", "reason"),
    [
        (300000, CPUS, 3, "cgroup quota"),
        (600000, CPUS, 4, "physical cores"),
        (400000, CPUS, 4, "physical cores"),
        (300000, [0, 1], 2, "affinity mask"),
        (100000, [0], 1, "affinity mask of 1 CPU"),
    ],
)
def test_the_smallest_of_the_three(tree: Tree, quota: int, affinity: list[int], threads: int, reason: str) -> None:
    tree.siblings("0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7")
    tree.proc("0::/app", V2)
    tree.write("/sys/fs/cgroup/app/cpu.max", f"{quota} 100000\n")
    host = tree.detect(affinity)
    assert host["threads"] == threads
    assert reason in host["reason"]


def test_this_machine() -> None:
    host = _native.detect_host()
    assert host["affinity_cpus"] == sorted(os.sched_getaffinity(0))
    assert 1 <= host["threads"] <= host["physical_cores"] <= len(host["affinity_cpus"])
    if host["quota"] > 0:
        assert Path(host["quota_source"]).is_file()


def test_the_processs_own_affinity_mask_counts() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from forwardpass import _native; print(_native.detect_host()['threads'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "1"
