"""podman with settings and a storage of its own: the images and containers of whoever runs the tests are left alone.

The base images that deploy/Containerfile names come from their registry or, where it is out of reach, from
tests/deploy/base-images.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TypeVar
from zlib import crc32

import pytest
from chart import TOOLS

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
# Images stay here, so that the next build takes up the layers of this one.
STORAGE = ROOT / "target/deploy"
CONTAINERFILE = ROOT / "deploy/Containerfile"
# What waits for a condition gives up after this many seconds.
PATIENCE = 120.0

T = TypeVar("T")


@cache
def environment() -> dict[str, str]:
    """The variables with which podman uses our settings."""
    if shutil.which("podman") is None:
        pytest.fail("podman is missing: make test-deploy installs it")
    if os.geteuid() != 0:
        pytest.fail("make test-deploy needs root: the tests ask pods on podman's bridge, as a node asks its own")
    (STORAGE / "tmp").mkdir(parents=True, exist_ok=True)
    # podman would raise these limits, which a process without CAP_SYS_RESOURCE may not.
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    processes = min(resource.getrlimit(resource.RLIMIT_NPROC)[1] // 2, 4096)
    (STORAGE / "containers.conf").write_text(
        f"""[containers]
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
network_config_dir = "{STORAGE}/networks"
"""
    )
    running = f"/run/autolrs-test-deploy-{crc32(bytes(STORAGE)):08x}"
    (STORAGE / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{STORAGE}/storage"\nrunroot = "{running}"\n'
    )
    ours = {name: value for name, value in os.environ.items() if not name.startswith("AUTOLRS_")}
    return ours | {
        "CONTAINERS_CONF": str(STORAGE / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(STORAGE / "storage.conf"),
        # Every build with the health check, and so with the layers of the others.
        "BUILDAH_FORMAT": "docker",
        # Where the caches of builds are.
        "TMPDIR": str(STORAGE / "tmp"),
        "PATH": f"{TOOLS}:{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


def run(*command: str, timeout: float = PATIENCE, **options: object) -> str:
    """Runs it with our settings; what it prints. The test fails if it does."""
    done = attempt(*command, timeout=timeout, **options)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def attempt(*command: str, timeout: float = PATIENCE, **options: object) -> subprocess.CompletedProcess[str]:
    settings = {"env": environment(), "capture_output": True, "text": True, "timeout": timeout, **options}
    return subprocess.run(command, **settings)  # type: ignore[call-overload, no-any-return]


def podman(*arguments: str, timeout: float = PATIENCE, **options: object) -> str:
    return run("podman", *arguments, timeout=timeout, **options)


def until(condition: Callable[[], T], what: Callable[[], str]) -> T:
    """Waits until the condition holds; its value."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, what()
        time.sleep(0.2)
    return value


@cache
def base_images() -> tuple[str, str]:
    """Rust's version and Debian's release, whose images are there now."""
    text = CONTAINERFILE.read_text()
    versions = re.findall(r"^ARG (?:RUST|DEBIAN)=(\S+)$", text, re.M)
    rust, debian = versions
    print(run(str(HERE / "base-images"), rust, debian, timeout=1800))
    return rust, debian


def remove_all() -> None:
    """Pods, containers, volumes and networks of tests; images stay."""
    for kind in ("pod", "container"):
        # An end that is under way may hold a mount for a moment.
        remove = partial(attempt, "podman", kind, "rm", "--all", "--force")
        until(lambda remove=remove: remove().returncode == 0, lambda remove=remove: remove().stderr)  # type: ignore[misc]
    for command in ("volume rm --all --force", "secret rm --all", "network prune --force"):
        podman(*command.split())
