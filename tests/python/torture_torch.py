"""`make torture`, the PyTorch part: kills a real training again and again, at any moment of its life.

    python torture_torch.py [--kills 50] [--seed 1]

The training has dropout and a loader that shuffles; its checkpoint holds the generator and the place in the data. In
the end its schedule and its weights must be, to the bit, those of a training that was left alone, and the server must
have all of its steps.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from conftest import Server, server_binary

TRAINER = Path(__file__).with_name("trainer.py")
TOTAL_STEPS = 800  # scan searches from 720 on
KILLS_PER_JOB = 10
STUCK_AFTER = 150.0  # seconds; the decision time-out is 120


def start(server: Server, job: str, directory: Path) -> subprocess.Popen[str]:
    directory.mkdir(exist_ok=True)
    command = [sys.executable, str(TRAINER), server.address, job, str(TOTAL_STEPS), str(directory)]
    with (directory / "log").open("a") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        command += ["--dropout", "--pause", "0.002"]
        return subprocess.Popen(command, stdout=pipe, stderr=log, text=True, env=environment)


def killed(server: Server, job: str, directory: Path, draw: random.Random) -> str:
    """Starts the training and kills it at a moment of its life; the phase it was last heard in, or "" if it ended."""
    process = start(server, job, directory)
    assert process.stdout is not None
    phase = "start"
    for _ in range(draw.randrange(draw.choice((3, 10)))):  # a line per 20 steps; the search has four
        line = process.stdout.readline()
        if not line:
            break
        phase = line.split()[1]
    time.sleep(draw.random() * 0.15)
    process.kill()
    process.stdout.close()
    return phase if process.wait() == -9 else ""


def result(directory: Path) -> tuple[list[list[float]], dict[str, torch.Tensor]]:
    return json.loads((directory / "schedule.json").read_text()), torch.load(directory / "model.pt")


def steps_of(server: Server, job: str) -> tuple[str, int]:
    """The state of a job and its steps, as the server has them."""
    command = [str(server_binary()), "jobs", "show", job, "--server", f"http://{server.address}", "--output", "json"]
    shown = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return shown["state"], sum(shown["steps"][kind] for kind in ("committed", "search", "lost"))


def main(kills: int, seed: int) -> int:
    draw = random.Random(seed)
    done, jobs, lost, changed, stuck = 0, 0, 0, 0, 0
    with tempfile.TemporaryDirectory(prefix="autolrs-torture-") as name:
        root = Path(name)
        server = Server(root)
        server.start()
        try:
            start(server, "undisturbed", root / "undisturbed").communicate(timeout=STUCK_AFTER)
            schedule, weights = result(root / "undisturbed")
            while done < kills:
                jobs += 1
                job = f"job{jobs}"
                places = []
                for _ in range(min(KILLS_PER_JOB, kills - done)):
                    place = killed(server, job, root / job, draw)
                    if not place:
                        break
                    places.append(place)
                done += len(places)
                process = start(server, job, root / job)
                try:
                    process.communicate(timeout=STUCK_AFTER)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.communicate()
                if process.returncode != 0:
                    stuck += 1
                    print(f"{job}: {process.returncode}\n{(root / job / 'log').read_text()[-2000:]}", flush=True)
                    continue
                state, steps = steps_of(server, job)
                stuck += not re.search("finished", state, re.IGNORECASE)
                lost += abs(steps - len(schedule))
                its_schedule, its_weights = result(root / job)
                pairs = zip(schedule, its_schedule)
                changed += sum(a != b for a, b in pairs) + abs(len(schedule) - len(its_schedule))
                changed += sum(not torch.equal(value, its_weights[name]) for name, value in weights.items())
                print(f"{done:5} of {kills} kills, {jobs} jobs: in {', '.join(places)}", flush=True)
        finally:
            server.kill()
    print(f"\n{'':<20}{'jobs':>8}{'kills':>8}{'lost reports':>14}{'changed decisions':>19}{'stuck jobs':>12}")
    print(f"{'PyTorch trainer':<20}{jobs:>8}{done:>8}{lost:>14}{changed:>19}{stuck:>12}")
    return int((lost, changed, stuck) != (0, 0, 0))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--kills", type=int, default=50)
    arguments.add_argument("--seed", type=int, default=1)
    sys.exit(main(**vars(arguments.parse_args())))
