"""Writes server/core/tests/golden/schedules.json: the LR of every step of PyTorch's own schedulers.

    /usr/bin/python3 tests/golden/schedules.py      # Debian's python3-torch

The file names the version that made it. Each case holds the policy, its options as the specification has them, the
highest LR, and the LRs.
"""

import json
import pathlib
import warnings

import torch
from torch.optim import lr_scheduler

OUT = pathlib.Path(__file__).parents[2] / "server/core/tests/golden/schedules.json"
LR = 0.3


def main():
    cases = [*step_cases(), *one_cycle_cases(), *clr_cases(), *sgdr_cases()]
    head = {"generator": "tests/golden/schedules.py", "versions": {"torch": torch.__version__}}
    lines = ",\n".join(json.dumps(case) for case in cases)
    OUT.write_text(f'{json.dumps(head)[:-1]}, "cases": [\n{lines}\n]}}\n')


def step_cases():
    for total, step_size, gamma in ((50, 7, 0.1), (300, 100, 0.5), (1000, 1, 0.99)):
        lrs = run(total, lr_scheduler.StepLR, step_size, gamma)
        yield case("step", {"step_size": step_size, "gamma": gamma}, lrs)
    for total, milestones, gamma in ((400, [200, 300], 0.1), (777, [1, 30, 80, 5000], 0.3)):
        lrs = run(total, lr_scheduler.MultiStepLR, milestones, gamma)
        yield case("step", {"milestones": milestones, "gamma": gamma}, lrs)
    lrs = run(640, lr_scheduler.MultiStepLR, [320, 480])
    yield case("step", {}, lrs)


def one_cycle_cases():
    """Where the rise is a whole number of steps."""
    yield case("one_cycle", {}, run(1000, lr_scheduler.OneCycleLR, LR, total_steps=1000))
    for total, pct_start, div_factor, final in ((40, 0.5, 10.0, 100.0), (200, 0.05, 1.0, 1.0), (100, 1.0, 4.0, 4.0)):
        options = {"pct_start": pct_start, "div_factor": div_factor, "final_div_factor": final}
        lrs = run(total, lr_scheduler.OneCycleLR, LR, total_steps=total, **options)
        yield case("one_cycle", options, lrs)


def clr_cases():
    for total, base_lr, step_size in ((100, 0.01, 7), (1000, 0.075, 125), (350, 0.3, 1), (9, 0.1, 400)):
        lrs = run(total, lr_scheduler.CyclicLR, base_lr, LR, step_size, cycle_momentum=False)
        yield case("clr", {"base_lr": base_lr, "step_size": step_size}, lrs)
    lrs = run(800, lr_scheduler.CyclicLR, LR / 4, LR, 100, cycle_momentum=False)
    yield case("clr", {}, lrs)


def sgdr_cases():
    for total, t0, t_mult, end_factor in ((1000, 10, 2, 0.0), (500, 50, 1, 0.1), (333, 7, 3, 0.01), (20, 1, 2, 0.0)):
        lrs = run(total, lr_scheduler.CosineAnnealingWarmRestarts, t0, t_mult, end_factor * LR)
        yield case("sgdr", {"t0": t0, "t_mult": t_mult, "end_factor": end_factor}, lrs)
    lrs = run(1500, lr_scheduler.CosineAnnealingWarmRestarts, 100, 2)
    yield case("sgdr", {}, lrs)


def run(total, scheduler, *arguments, **options):
    """The LRs of `total` steps."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the optimizer does no step
        scheduler = scheduler(optimizer, *arguments, **options)
        lrs = []
        for i in range(total):
            lrs.append(optimizer.param_groups[0]["lr"])
            if i + 1 < total:
                scheduler.step()
    return lrs


def case(policy, options, lrs):
    return {"policy": policy, "options": options, "lr": LR, "lrs": lrs}


if __name__ == "__main__":
    main()
