"""The files in deploy/: the manifest fits Kubernetes' schemas, and the binary runs with the very arguments in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import kubernetes_validate
import pytest
import yaml
from conftest import server_binary

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCUMENTS: list[dict[str, Any]] = list(yaml.safe_load_all((DEPLOY / "kubernetes/statefulset.yaml").read_text()))
CONTAINERFILE = (DEPLOY / "Containerfile").read_text().replace("\\\n", " ")
# The oldest Kubernetes that deploy/README.md promises, and the newest at the time of writing.
VERSIONS = ("1.27", "1.37")
# A start or an end that takes longer is broken.
DEADLINE = 30.0


def document(kind: str) -> dict[str, Any]:
    (found,) = [document for document in DOCUMENTS if document["kind"] == kind]
    return found


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = document("StatefulSet")["spec"]["template"]["spec"]
    return spec


def container() -> dict[str, Any]:
    (only,) = pod()["containers"]
    return dict(only)


def flags() -> dict[str, str]:
    """The container's `--name=value` arguments; a switch has no value."""
    pairs = (argument.partition("=") for argument in container()["args"][1:])
    return {name: value for name, _, value in pairs}


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


# --- the manifest on paper


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["Service", "StatefulSet", "PodDisruptionBudget", "NetworkPolicy"])
def test_the_manifest_fits_the_schemas(kind: str, version: str) -> None:
    kubernetes_validate.validate(document(kind), version, strict=True)


def test_every_selector_finds_the_pod() -> None:
    labels = document("StatefulSet")["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        document("Service")["spec"]["selector"],
        document("StatefulSet")["spec"]["selector"]["matchLabels"],
        document("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        document("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector and selector.items() <= labels for selector in selectors)
    assert document("StatefulSet")["spec"]["serviceName"] == document("Service")["metadata"]["name"]


def test_ports_and_probes_are_the_listeners() -> None:
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert ports == {"grpc": port_of(flags()["--listen"]), "http": port_of(flags()["--http-listen"])}
    assert {port["name"]: port["port"] for port in document("Service")["spec"]["ports"]} == ports
    for probe in ("startupProbe", "readinessProbe"):
        assert container()[probe]["grpc"]["port"] == ports["grpc"]
    assert container()["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}


def test_the_pod_is_confined() -> None:
    assert pod()["automountServiceAccountToken"] is False
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    (mount,) = container()["volumeMounts"]
    assert flags()["--data-dir"].startswith(mount["mountPath"] + "/"), "the store is on the volume"
    assert document("StatefulSet")["spec"]["replicas"] == 1, "the store belongs to one process"
    assert "--insecure" not in flags() or document("NetworkPolicy")["spec"]["ingress"], "open, but not to everyone"


def test_the_grace_covers_the_drain() -> None:
    drain = re.search(r'^#? *drain = "(\d+)s"$', (DEPLOY / "config.example.toml").read_text(), re.M)
    assert drain is not None
    assert pod()["terminationGracePeriodSeconds"] > int(flags().get("--drain", drain[1]).removesuffix("s"))


# --- the binary with the manifest's arguments


@pytest.fixture(scope="module")
def binary() -> Path:
    return server_binary()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def health(binary: Path, port: int) -> subprocess.CompletedProcess[str]:
    command = [str(binary), "health", "--server", f"http://127.0.0.1:{port}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)


@contextmanager
def running(command: list[str], port: int, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """The server as a process, once `autolrs health` finds it well."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUTOLRS_")}
    log = cwd / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen(command, cwd=cwd, env=environment, stderr=stderr, text=True)
    try:
        end = time.monotonic() + DEADLINE
        while health(Path(command[0]), port).returncode != 0:
            assert process.poll() is None, f"the server ended: {log.read_text()}"
            assert time.monotonic() < end, f"the server is not well: {log.read_text()}"
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_binary_runs_with_the_manifests_arguments(binary: Path, tmp_path: Path) -> None:
    ports = {port_of(flags()[name]): free_port() for name in ("--listen", "--http-listen")}
    home = tmp_path / "container"
    home.mkdir()

    def here(argument: str) -> str:
        name, _, value = argument.partition("=")
        if name in ("--listen", "--http-listen"):
            return f"{name}={value.rpartition(':')[0]}:{ports[port_of(value)]}"
        return argument.replace(flags()["--data-dir"], str(tmp_path / "volume/data"))

    grpc, http = ports.values()
    (tmp_path / "volume").mkdir()
    with running([str(binary), *map(here, container()["args"])], grpc, home) as process:
        path = container()["livenessProbe"]["httpGet"]["path"]
        with urlopen(f"http://127.0.0.1:{http}{path}", timeout=DEADLINE) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(pod()["terminationGracePeriodSeconds"]) == 0
    assert health(binary, grpc).returncode != 0, "nobody is there any more"
    assert any((tmp_path / "volume/data").iterdir()), "the store is where the volume is"
    assert [file.name for file in home.iterdir()] == ["log"], "a read-only root file system is enough"
    lines = (home / "log").read_text().splitlines()
    assert lines and all(isinstance(json.loads(line), dict) for line in lines), "every line of the log is JSON"


def test_open_to_others_only_if_told(binary: Path, tmp_path: Path) -> None:
    arguments = [argument for argument in container()["args"] if argument != "--insecure"]
    refused = subprocess.run([str(binary), *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE)
    assert refused.returncode != 0
    assert "--insecure" in refused.stderr


def test_the_example_configuration_is_the_default(binary: Path, tmp_path: Path) -> None:
    """With every line in force the server starts; the keys and the defaults are those of `autolrs serve --help`."""
    example = (DEPLOY / "config.example.toml").read_text()
    settings = dict(re.findall(r"^# ([a-z_]+) = (.+)$", example, re.M))
    usage = subprocess.run([str(binary), "serve", "--help"], capture_output=True, text=True, timeout=DEADLINE).stdout
    known = re.findall(r"\[env: AUTOLRS_([A-Z_]+)\]\s+\[default: ([^\]]*)\]", re.sub(r"\s+", " ", usage))
    assert {key: value.strip('"') for key, value in settings.items()} == {key.lower(): value for key, value in known}

    port = free_port()
    settings |= {"listen": f'"127.0.0.1:{port}"', "http_listen": '"off"', "data_dir": '"data"'}
    config = tmp_path / "autolrs.toml"
    config.write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
    with running([str(binary), "serve", "--config", str(config)], port, tmp_path):
        pass


# --- the Containerfile on paper


def steps(instruction: str) -> list[str]:
    """What follows each of these instructions."""
    return re.findall(rf"^{instruction} +(.+?) *$", CONTAINERFILE, re.M)


def test_the_containerfile_copies_what_exists() -> None:
    sources = [words.split()[:-1] for words in steps("COPY") if not words.startswith("--from")]
    assert sources
    for source in sum(sources, []):
        assert (ROOT / source).exists(), source
    members = re.search(r"^members = (\[.*?\])", (ROOT / "Cargo.toml").read_text(), re.M | re.S)
    assert members is not None
    for member in json.loads(members[1]):
        copied = [source for source in sum(sources, []) if member == source or member.startswith(source + "/")]
        assert copied or f"{member}/Cargo.toml" in sum(sources, []), f"cargo needs the manifest of {member}"


def test_what_is_copied_is_a_workspace(tmp_path: Path) -> None:
    """Cargo finds every member and every target in what the Containerfile copies before it builds."""
    for words in (step.split() for step in steps("COPY")[: steps("COPY").index("tests tests") + 1]):
        *sources, target = words
        for source in sources:
            place = tmp_path / (source if target == "./" else target)
            place.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
            copy(ROOT / source, place)
    command = ["cargo", "metadata", "--no-deps", "--format-version=1"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE)
    assert found.returncode == 0, found.stderr
    targets = [target for package in json.loads(found.stdout)["packages"] for target in package["targets"]]
    assert targets and all(Path(target["src_path"]).exists() for target in targets)


def test_the_containerfile_builds_and_runs_the_binary() -> None:
    (build,) = [step for step in steps("RUN") if "cargo build" in step]
    manifest = (ROOT / "server/Cargo.toml").read_text()
    package, name = re.search(r"--package (\S+) --bin (\S+)", build).groups()  # type: ignore[union-attr]
    assert f'name = "{package}"' in manifest and f'name = "{name}"' in manifest
    assert f"COPY --from=build /src/target/release/{name} /usr/local/bin/{name}" in CONTAINERFILE
    assert [json.loads(step) for step in steps("ENTRYPOINT")] == [[name]]
    assert f'CMD ["{name}", "health"]' in steps("HEALTHCHECK")[0]


def test_image_and_manifest_agree() -> None:
    user = pod()["securityContext"]
    assert steps("USER") == [f"{user['runAsUser']}:{user['runAsGroup']}"]
    (mount,) = container()["volumeMounts"]
    assert steps("VOLUME") == [mount["mountPath"]]
    assert steps("ENV") == [f"AUTOLRS_DATA_DIR={flags()['--data-dir']}"]
    ports = [str(port["containerPort"]) for port in container()["ports"]]
    assert steps("EXPOSE") == [" ".join(ports)]
    version = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.M)
    assert version is not None and container()["image"].endswith(f":{version[1]}")
