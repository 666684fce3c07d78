"""A training loop with the five lines that hand its learning rate to the service.

Start the server first (`autolrs serve`), then `python five_lines.py [total steps]`.
"""

from __future__ import annotations

import sys

import images
import torch

import autolrs.torch as autolrs

torch.set_num_threads(1)
data = images.load()
model = images.small_cnn(data, seed=0)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data.train), batch_size=64, shuffle=True)


def train_step(batch: images.Batch) -> torch.Tensor:
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
    loss.backward()
    optimizer.step()
    return loss


with autolrs.Schedule(optimizer, model, total_steps=int(sys.argv[1]) if len(sys.argv) > 1 else 3000) as schedule:
    for batch in schedule.steps(loader):
        loss = train_step(batch)
        schedule.step(loss)
        if schedule.total_step % 250 == 0:
            print(f"{schedule.total_step:5d} {schedule.phase:8s} LR {schedule.lr:<9.3g} loss {loss.item():.3f}")

print(f"{data.name}: test accuracy {images.accuracy(model, data.test):.4f}; picture: {schedule.plot('five_lines.png')}")
