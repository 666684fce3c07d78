"""The page python-client/MIGRATION.md: every *After* is run, from the page, on the real server."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from conftest import ROOT, Server
from torch import nn

PAGE = (ROOT / "python-client/MIGRATION.md").read_text()
SECTIONS = dict(re.findall(r"^## (From .*?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))


def block(section: str, when: str) -> str:
    """The code under "Before:" or "After:"."""
    (code,) = re.findall(rf"^{when}:\n\n```python\n(.*?)^```", SECTIONS[section], re.M | re.S)
    return str(code)


def given() -> dict[str, Any]:
    """What the page takes for granted."""
    torch.manual_seed(0)
    x = torch.randn(256, 8)
    y = (x @ torch.randn(8, 3)).argmax(1)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=32, shuffle=True)

    def new_model() -> nn.Module:
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss

    names: dict[str, Any] = {"torch": torch, "loader": loader, "epochs": 100, "total_steps": 800}
    names |= {"model": new_model(), "new_model": new_model}
    names["validation_loss"] = lambda model: float(nn.functional.cross_entropy(model(x), y))
    names["train_step"] = lambda *what: (
        step(*what) if len(what) == 3 else step(names["model"], names["optimizer"], *what)
    )
    return names


@pytest.mark.parametrize("section", SECTIONS)
def test_the_code_is_python(section: str) -> None:
    for when in ("Before", "After"):
        compile(block(section, when), section, "exec")


def test_from_cosine(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run("From `CosineAnnealingLR`", server, monkeypatch)
    assert names["schedule"].done_reason == "finished" and names["schedule"].total_step == 800
    assert any(step.kind == "search" for step in names["schedule"].history)


def test_from_one_cycle(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The top is the optimizer's LR, where PyTorch's own has it."""
    names = run("From `OneCycleLR`", server, monkeypatch)
    assert names["schedule"].done_reason == "finished"
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=800, cycle_momentum=False)
    theirs = []
    for _ in range(800):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert [step.lr for step in names["schedule"].history] == pytest.approx(theirs, rel=1e-6)


def test_from_optuna(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < run("From Optuna", server, monkeypatch)["loss"] < 1


def test_from_lightnings_finder(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    lightning = pytest.importorskip("lightning")
    pytest.importorskip("autolrs.lightning")
    names = given()

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = names["model"]

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    names |= {"module": Module(), "trainer_options": quiet}
    code = block("From Lightning's LR finder", "After").replace("10 * len(loader)", "100 * len(loader)")
    monkeypatch.setenv("AUTOLRS_SERVER", server.address)
    exec(code, names)
    assert names["callback"].schedule.done_reason == "finished"


def run(section: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Runs the section's *After*; the names that are then there."""
    monkeypatch.setenv("AUTOLRS_SERVER", server.address)
    names = given()
    exec(block(section, "After"), names)
    return names


def test_the_numbers_are_the_readmes() -> None:
    """What the page says of the policies stands in the table of the root README."""
    readme = (ROOT / "README.md").read_text()
    rows = {name: cells for name, cells in re.findall(r"^\| (scan|cosine|one-cycle) \| (.*) \|$", readme, re.M)}
    means = {name: [cell.strip("* ").split(" ±")[0] for cell in cells.split(" | ")] for name, cells in rows.items()}

    def stated(name: str, task: int, digits: int) -> str:
        return f"{float(means[name][task]):.{digits}f}"

    for other, section in (("cosine", "From `CosineAnnealingLR`"), ("one-cycle", "From `OneCycleLR`")):
        text = " ".join(SECTIONS[section].split())
        for task in (1, 4):
            assert stated(other, task, 2) in text and stated("scan", task, 2) in text, (other, task)
        behind = [task for task in range(5) if float(means[other][task]) < float(means["scan"][task])]
        assert behind == [1, 4], "where the tuned one wins"
