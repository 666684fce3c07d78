"""In a notebook: a real kernel, driven as Jupyter drives it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import ROOT, Server
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

EXAMPLES = ROOT / "python-client/examples"

# A cell that may take longer is broken.
DEADLINE = 120

SETUP = """
import sys, threading, time
sys.path.insert(0, {tests!r})
import torch
import autolrs.torch as autolrs
from trainer import batches, make, train_step
torch.set_num_threads(1)
model, optimizer = make()
schedule = autolrs.Schedule(optimizer, model, 800, job="notebook")
"""

LOOP = """
for batch in schedule.steps(batches):
    schedule.step(train_step(model, optimizer, batch))
    if schedule.total_step == 30:
        print("under way", flush=True)
    time.sleep(0.005 if schedule.total_step < 100 else 0)
print(schedule.total_step, schedule.done_reason)
"""

# Says so as soon as the loop stands still for an answer.
WATCH = """
def watch():
    while not schedule._waiting:
        time.sleep(0.001)
    print("waiting", flush=True)
threading.Thread(target=watch).start()
"""


class Kernel:
    """A kernel and its client."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self.client = client

    def run(self, code: str, when: str = "", then: Callable[[], object] = lambda: None) -> tuple[str, Any, str]:
        """Runs a cell; once it has printed `when`, does `then`. What it printed, what it showed, its error if any."""
        printed: list[str] = []
        shown: dict[str, Any] = {}

        def hear(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                before = when and when in "".join(printed)
                printed.append(content["text"])
                if when and not before and when in "".join(printed):
                    then()
            elif message["msg_type"] in ("execute_result", "display_data"):
                shown.update(content["data"])

        reply = self.client.execute_interactive(code, timeout=DEADLINE, output_hook=hear)["content"]
        return "".join(printed), shown, reply.get("ename", "")


@pytest.fixture
def kernel(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    """A new kernel whose environment names the server."""
    monkeypatch.setenv("AUTOLRS_SERVER", server.address)
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=DEADLINE)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def set_up(kernel: Kernel) -> None:
    assert kernel.run(SETUP.format(tests=str(ROOT / "tests/python"))) == ("", {}, "")


def test_an_interrupt_while_training(kernel: Kernel) -> None:
    """The cell ends with KeyboardInterrupt; run again, it trains on to the end of the budget."""
    set_up(kernel)
    _, _, error = kernel.run(LOOP, "under way", kernel.manager.interrupt_kernel)
    assert error == "KeyboardInterrupt"
    _, shown, _ = kernel.run("schedule")
    assert "of 800 <progress" in shown["text/html"] and "of 800, search" in shown["text/plain"]
    printed, _, error = kernel.run(LOOP)
    assert error == "" and "800 finished" in printed


def test_an_interrupt_while_waiting_for_the_server(kernel: Kernel, server: Server) -> None:
    """A frozen server does not freeze the notebook, and the same cell goes on when the server is back."""
    set_up(kernel)
    server.send(signal.SIGSTOP)
    _, _, error = kernel.run(WATCH + LOOP, "waiting", kernel.manager.interrupt_kernel)
    assert error == "KeyboardInterrupt"
    assert kernel.run("print(schedule._waiting)")[0] == "True\n"
    server.send(signal.SIGCONT)
    printed, _, error = kernel.run(LOOP)
    assert error == "" and "800 finished" in printed


def test_cells_that_are_run_again(kernel: Kernel) -> None:
    """The cell that makes the schedule before its first step: it works. The loop's cell after the end: it says why not.
    All cells after the end: an error with the ways out."""
    set_up(kernel)
    set_up(kernel)
    assert "800 finished" in kernel.run(LOOP)[0]
    printed, _, error = kernel.run(LOOP)
    assert error == "" and "The schedule is done (finished)" in printed
    set_up(kernel)
    _, _, error = kernel.run(LOOP)
    assert error == "JobFinished"


def test_a_job_is_named_after_the_notebook(kernel: Kernel) -> None:
    name = "from autolrs._spec import job_name; print(job_name(None))"
    assert kernel.run(name)[0].startswith("notebook-2")
    told = "import os; os.environ['JPY_SESSION_NAME'] = '/home/me/My Run.ipynb'"
    assert kernel.run(f"{told}\n{name}")[0].startswith("my-run-2")


def test_the_example_runs(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every cell without an error; the progress bar reaches its end, and the picture is shown."""
    monkeypatch.setenv("AUTOLRS_SERVER", server.address)
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "the file holds no outputs"
    resources = {"metadata": {"path": str(EXAMPLES)}}
    NotebookClient(notebook, timeout=DEADLINE, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.get("text", "") for output in outputs)
    assert "800/800" in text and "accuracy" in text
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert any("<progress" in output.get("data", {}).get("text/html", "") for output in outputs)
