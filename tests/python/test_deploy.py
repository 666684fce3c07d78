"""The files in deploy/: the example configuration is the server's, and the Containerfile fits the repository. The chart
and the image themselves are tested in tests/deploy."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

from serving import ROOT, server_binary
from started import DEADLINE, example_settings, free_port, running, settings_known

CONTAINERFILE = (ROOT / "deploy/Containerfile").read_text().replace("\\\n", " ")


def test_the_example_configuration_is_the_default(tmp_path: Path) -> None:
    """With every line in force the server starts; the keys and the defaults are those of `autolrs serve --help`."""
    settings = example_settings()
    assert {key: value.strip('"') for key, value in settings.items()} == settings_known()

    port = free_port()
    settings |= {"listen": f'"127.0.0.1:{port}"', "http_listen": '"off"', "data_dir": '"data"'}
    config = tmp_path / "autolrs.toml"
    config.write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
    with running([str(server_binary()), "serve", "--config", str(config)], port, tmp_path):
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
    before = CONTAINERFILE.partition("\nRUN ")[0]
    for words in re.findall(r"^COPY +(.+?) *$", before, re.M):
        *sources, target = words.split()
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
    assert build.endswith(f"cp target/release/{name} /usr/local/bin/")
    assert f"COPY --from=build /usr/local/bin/{name} /usr/local/bin/{name}" in CONTAINERFILE
    assert [json.loads(step) for step in steps("ENTRYPOINT")] == [[name]]
    assert f'CMD ["{name}", "health"]' in steps("HEALTHCHECK")[0]
