"""The source distribution builds alone; its wheel installs into an empty environment and does what the pages say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, Server

pytestmark = pytest.mark.timeout(600)

BIN = Path(sys.executable).parent

BARE = """
import sys, autolrs
assert autolrs.__version__
assert issubclass(autolrs.JobFinished, autolrs.Error)
assert sorted(autolrs.__all__) == sorted(set(autolrs.__all__))
assert "torch" not in sys.modules and "grpc" not in sys.modules
"""

# What the README's lines take for granted: a model, an optimizer, a loader and a step.
LOOP = """
import torch

torch.set_num_threads(1)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=16, shuffle=True)


def train_step(batch):
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(batch[0]), batch[1])
    loss.backward()
    optimizer.step()
    return loss
"""

TYPED = """
import torch

import autolrs
import autolrs.torch


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batches: list[torch.Tensor]) -> list[float]:
    with autolrs.torch.Schedule(optimizer, model, total_steps=100, job="typed") as schedule:
        for batch in schedule.steps(batches):
            schedule.step(model(batch))
    kept: int = schedule.committed_step
    assert kept <= schedule.total_step
    return [step.lr for step in schedule.history]


saved: autolrs.SavedSchedule = autolrs.load_schedule("schedule.json")
first: float = saved[0]
"""


def run(*command: object, **options: object) -> str:
    """What the command prints; its complaints are shown if it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return str(done.stdout)


def tool(name: str) -> Path:
    if not (BIN / name).exists():
        pytest.skip(f"{name} is not in this environment")
    return BIN / name


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution."""
    out = tmp_path_factory.mktemp("sdist")
    run(tool("maturin"), "sdist", "-m", ROOT / "python-client/Cargo.toml", "-o", out)
    (archive,) = out.glob("autolrs-*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that the source distribution gives where no other file of the repository is near.

    Third-party crates are shared with the repository's build, the one for tests. Cargo knows our own by their place in
    the workspace, so it would take them from there as well: the files are made new, and it builds them.
    """
    out, place = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("alone")
    run("tar", "-xzmf", sdist, "-C", place, "--strip-components=1")
    target = (ROOT / os.environ.get("CARGO_TARGET_DIR", "target")).resolve()
    command = [tool("maturin"), "build", "-i", sys.executable, "-o", out]
    run(*command, cwd=place, env={**os.environ, "CARGO_TARGET_DIR": str(target)})
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and the system's PyTorch, and nothing else of ours."""
    folder = tmp_path_factory.mktemp("torch")
    run(sys.executable, "-m", "venv", "--system-site-packages", folder)
    run(folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    if subprocess.run([folder / "bin/python", "-c", "import torch"], capture_output=True).returncode != 0:
        pytest.skip("the system's Python has no PyTorch")
    return folder


def readme_lines() -> str:
    """The first block of Python on the package's page, with a budget and a name for a test."""
    page = (ROOT / "python-client/README.md").read_text()
    lines = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)[0]
    assert len(lines.splitlines()) <= 6 and "total_steps=20_000" in lines
    return lines.replace("total_steps=20_000", "total_steps=800")


def test_the_archives_are_complete(sdist: Path, wheel: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        crates = ["client-rs", "proto", "server/core", "python-client"]
        assert {"LICENSE", "README.md", "Cargo.lock", *(f"{crate}/Cargo.toml" for crate in crates)} <= names
        assert all(archive.getmember(name).isreg() for name in archive.getnames()), "links were followed"
    assert re.fullmatch(r"autolrs-[0-9.]+-cp39-abi3-\w+\.whl", wheel.name)
    content = set(zipfile.ZipFile(wheel).namelist())
    ours = {f"autolrs/{path.name}" for path in (ROOT / "python-client/python/autolrs").glob("*.py*")}
    ours |= {"autolrs/py.typed", "autolrs/_core.abi3.so"}
    assert {name for name in content if name.startswith("autolrs/")} == ours
    (licence,) = [name for name in content if name.endswith("/LICENSE")]
    assert zipfile.ZipFile(wheel).read(licence) == (ROOT / "LICENSE").read_bytes()


def test_the_metadata_are_in_order(sdist: Path, wheel: Path) -> None:
    run(tool("twine"), "check", "--strict", sdist, wheel)
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        metadata = archive.read(name).decode()
    for line in ("License-Expression: Apache-2.0", "License-File: LICENSE", "Requires-Python: >=3.9"):
        assert f"\n{line}\n" in metadata
    needed = re.findall(r"^Requires-Dist: (.*)$", metadata, re.M)
    assert [line for line in needed if "extra ==" not in line] == ["numpy>=1.21"]


def test_installs_into_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "empty")
    python = tmp_path / "empty/bin/python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    run(python, "-c", BARE, cwd=tmp_path)
    installed = run(python, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check")
    assert {line.split("==")[0].lower() for line in installed.splitlines()} <= {"autolrs", "numpy", "pip", "setuptools"}


def test_the_readmes_lines_run_against_the_server(environment: Path, server: Server, tmp_path: Path) -> None:
    ending = 'print(schedule.job, schedule.total_step, schedule.done_reason, autolrs.__file__, sep="\\n")\n'
    (tmp_path / "train.py").write_text(f"{LOOP}\n\n{readme_lines()}\n\n{ending}")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("AUTOLRS_", "PYTHON"))}
    variables["AUTOLRS_SERVER"] = server.address
    out = run(environment / "bin/python", "train.py", cwd=tmp_path, env=variables).split()
    assert out[:3] == ["resnet50", "800", "finished"]
    assert Path(out[3]).is_relative_to(environment), "the installed package, not the one of the repository"


def test_a_users_program_is_type_checked(environment: Path, tmp_path: Path) -> None:
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    command = [tool("mypy"), "--strict", "--python-executable", environment / "bin/python"]
    (tmp_path / "right.py").write_text(TYPED)
    run(*command, "right.py", cwd=tmp_path, env=variables)
    (tmp_path / "wrong.py").write_text(TYPED.replace('job="typed"', "job=7").replace("first: float", "first: str"))
    refused = subprocess.run(
        [str(word) for word in [*command, "wrong.py"]], cwd=tmp_path, env=variables, capture_output=True, text=True
    )
    assert refused.returncode == 1 and "Found 2 errors" in refused.stdout, refused.stdout
