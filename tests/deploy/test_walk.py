"""deploy/README.md, walked through in a fresh folder, command by command, with the real tools. What asks a cluster or a
registry of images is done by podman instead; everything else is run as it is written there."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml
from chart import Document, tool
from cluster import Cluster
from engine import ROOT, STORAGE, attempt, base_images, podman, remove_all, run, until
from serving import server_binary
from walk import commands, fresh

# A first build of the image fetches and builds all crates.
BUILD_TIME = 3600.0
pytestmark = pytest.mark.timeout(2 * BUILD_TIME)
PYTORCH = "docker.io/pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base_images()
    folder = fresh(tmp_path_factory.mktemp("fresh"))
    # `make wheel` was run by `make test-deploy`; in a fresh folder it would build the world once more.
    shutil.copytree(ROOT / "target/wheels", folder / "target/wheels")
    return folder


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    remove_all()
    yield
    remove_all()


def shell(command: str, here: Path) -> str:
    """As it is written."""
    return run("bash", "-euo", "pipefail", "-c", command, cwd=here, timeout=BUILD_TIME)


def free(port: int) -> None:
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, f"something listens on port {port}, which the walk is to use"


def test_in_a_container(here: Path) -> None:
    free(7461)
    for command in commands("In a container"):
        if command.startswith("podman exec"):
            ask = partial(attempt, *shlex.split(command))
            until(lambda ask=ask: ask().returncode == 0, lambda: podman("logs", "autolrs"))  # type: ignore[misc]
        elif not command.startswith("podman-compose"):
            shell(command, here)
    (container,) = json.loads(podman("inspect", "autolrs"))
    confined(container)
    podman("healthcheck", "run", "autolrs")
    podman("stop", "autolrs")
    assert json.loads(podman("inspect", "autolrs"))[0]["State"]["ExitCode"] == 0, "SIGTERM is an end in order"
    added, whole = sizes("autolrs:0.1.0")
    print(f"the image: {whole / 1e6:.0f} MB, {added / 1e6:.1f} MB of them on top of Debian's")
    assert added < 40e6, "deploy/README.md says about 30 MB"


def confined(container: Document) -> None:
    """Not root, a root file system that is not written to, no capability."""
    assert container["Config"]["User"] == "10001:10001"
    assert container["HostConfig"]["ReadonlyRootfs"] is True
    assert not container["EffectiveCaps"]


def sizes(image: str) -> tuple[float, float]:
    """Bytes that it has beside its base image, and in all."""
    layers = json.loads(podman("history", "--format", "json", image))
    bytes_of = [int(layer["size"]) for layer in layers]
    return float(sum(bytes_of) - max(bytes_of)), float(sum(bytes_of))


def test_compose(here: Path) -> None:
    free(7461)
    (command,) = [command for command in commands("In a container") if command.startswith("podman-compose")]
    shell(command, here)
    (name,) = podman("ps", "--format", "{{.Names}}").splitlines()
    # As the timer of systemd does on a machine that has it.
    until(lambda: attempt("podman", "healthcheck", "run", name).returncode == 0, lambda: podman("logs", name))
    (container,) = json.loads(podman("inspect", name))
    assert container["HostConfig"]["ReadonlyRootfs"] is True
    listening = container["HostConfig"]["PortBindings"]
    assert {host["HostIp"] for ports in listening.values() for host in ports} == {"127.0.0.1"}
    listed = run(str(server_binary()), "jobs", "list", "--server", "http://127.0.0.1:7461")
    assert listed == "no jobs", "reached from outside"
    shell("podman-compose -f deploy/compose.yaml down", here)
    assert not podman("ps", "--all", "--quiet")


def test_in_kubernetes(here: Path) -> None:
    trainer_base()
    walk = Walk(here)
    for command in commands("In Kubernetes"):
        print("$", command)
        walk.perform(command)
    assert "example" in walk.jobs and "finished" in walk.jobs
    plain = [document for document in yaml.safe_load_all((here / "autolrs.yaml").read_text()) if document]
    assert all(document == walk.cluster.objects[document["kind"], document["metadata"]["name"]] for document in plain)
    assert len(plain) == 4
    # The same schedule, to the bit, as that of a training that nobody disturbed.
    undisturbed = json.loads(json.dumps(walk.cluster.objects["Job", "example"]))
    undisturbed["metadata"]["name"] = "undisturbed"
    (container,) = undisturbed["spec"]["template"]["spec"]["containers"]
    container["args"][0] = "--job=undisturbed"
    walk.cluster.play(undisturbed)
    assert walk.cluster.wait("undisturbed-trainer") == 0
    schedule = walk.exported("example")
    assert schedule == walk.exported("undisturbed")
    print(f"kept through both: {schedule}")


class Walk:
    """Does what a command of the section asks for."""

    def __init__(self, here: Path) -> None:
        self.here = here
        (here / "cluster").mkdir()
        self.cluster = Cluster(here / "cluster")
        self.jobs = ""

    def perform(self, command: str) -> None:
        words = shlex.split(command)
        if words[:2] == ["podman", "push"]:
            return  # podman has the image already
        if words[:2] == ["make", "wheel"]:
            return
        if words[:2] == ["podman", "build"] and "pytorch-job" in command:
            command = command.replace("podman build", f"podman build --build-arg PYTORCH={PYTORCH}")
        if words[0] == "kubectl":
            self.kubectl(words[3:] if words[1] == "-n" else words[1:], command)
        elif words[:4] == ["helm", "-n", "training", "install"]:
            self.cluster.apply(shell(command.replace(" install ", " template "), self.here))
        elif words[:4] == ["helm", "-n", "training", "test"]:
            self.test_hooks()
        else:
            shell(command, self.here)

    def kubectl(self, words: list[str], command: str) -> None:
        verb = words[:2]
        if verb[0] == "create":
            self.cluster.apply(shell(f"{command} --dry-run=client -o yaml", self.here))
        elif verb == ["rollout", "status"]:
            self.cluster.ready("autolrs")
            confined(self.cluster.state("autolrs-autolrs"))
        elif verb == ["apply", "-k"]:
            self.cluster.apply(run(tool("kubectl"), "kustomize", str(self.here / words[2])))
            self.disturb()
        elif verb[0] == "wait":
            assert self.cluster.wait("example-trainer") == 0
        elif words[:4] == ["exec", "-i", "autolrs-0", "--"]:
            self.jobs = self.inside(*words[4 : words.index("<")])
        else:
            pytest.fail(f"the test does not know what to do for: {command}")

    def test_hooks(self) -> None:
        (test,) = [document for key, document in self.cluster.objects.items() if key[0] == "Pod"]
        self.cluster.play(test)
        (container,) = test["spec"]["containers"]
        name = f"{test['metadata']['name']}-{container['name']}"
        assert self.cluster.wait(name) == 0, self.cluster.log(name)

    def inside(self, *words: str) -> str:
        """A command in the server's pod, with the token on its standard input."""
        token = (self.here / "token").read_text()
        return podman("exec", "-i", "autolrs-autolrs", *words, input=token)

    def job(self, name: str) -> Document:
        command = ["autolrs", "jobs", "list", "--token-file", "/dev/stdin", "--output", "json"]
        jobs: list[Document] = json.loads(self.inside(*command))["jobs"]
        return next((job for job in jobs if job["name"] == name), {})

    def exported(self, name: str) -> Document:
        """The schedule: the LR of every step that was kept."""
        text = self.inside("autolrs", "jobs", "export", name, "--token-file", "/dev/stdin")
        schedule: Document = json.loads(text)
        return {key: value for key, value in schedule.items() if key not in ("job", "uid")}

    def disturb(self) -> None:
        """Makes the server's pod anew in the search, and kills the trainer on the way."""
        self.until_steps(50)
        self.cluster.restart("StatefulSet", "autolrs")
        self.cluster.ready("autolrs")
        self.until_steps(1500)
        assert self.cluster.state("example-trainer")["State"]["Running"], "it did not mind"
        # Not by podman, which would take it for an end that is wanted.
        os.kill(self.cluster.state("example-trainer")["State"]["Pid"], signal.SIGKILL)
        log = partial(self.cluster.log, "example-trainer")
        until(lambda: "resumed at step" in log(), log)

    def until_steps(self, number: int) -> None:
        """Waits until the job has got so far."""

        def steps() -> int:
            counted = self.job("example").get("steps", {"committed": 0, "search": 0})
            return int(counted["committed"] + counted["search"])

        until(lambda: steps() >= number, lambda: f"{self.job('example')}\n{self.cluster.log('example-trainer')}")


def trainer_base() -> None:
    """PyTorch's image, or one of Debian's PyTorch under its name."""
    if attempt("podman", "image", "exists", PYTORCH).returncode == 0:
        return
    if attempt("podman", "pull", "--quiet", PYTORCH, timeout=BUILD_TIME).returncode == 0:
        return
    _, debian = base_images()
    recipe = f"""FROM docker.io/library/debian:{debian}-slim
RUN apt-get update -qq \\
 && apt-get install -y -qq --no-install-recommends python3-torch python3-pip >/dev/null \\
 && rm -r /var/lib/apt/lists/*
ENV PIP_BREAK_SYSTEM_PACKAGES=1
"""
    place = STORAGE / "pytorch"
    place.mkdir(parents=True, exist_ok=True)
    (place / "Containerfile").write_text(recipe)
    podman("build", "--quiet", "--tag", PYTORCH, str(place), timeout=BUILD_TIME)
