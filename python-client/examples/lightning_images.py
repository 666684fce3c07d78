"""A LightningModule whose learning rate comes from the service; TensorBoard and a CSV file show LR and search.

Start the server first (`autolrs serve`), then `python lightning_images.py [total steps]`.
"""

from __future__ import annotations

import sys

import images
import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader, TensorDataset

from autolrs.lightning import AutoLRSCallback

torch.set_num_threads(1)
data = images.load()


class Classifier(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = images.small_cnn(data, seed=0)

    def training_step(self, batch: images.Batch, batch_idx: int) -> torch.Tensor:
        loss = torch.nn.functional.cross_entropy(self.model(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: images.Batch, batch_idx: int) -> None:
        self.log("val_loss", torch.nn.functional.cross_entropy(self.model(batch[0]), batch[1]), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


module = Classifier()
callback = AutoLRSCallback(total_steps=int(sys.argv[1]) if len(sys.argv) > 1 else 3000, validation_loss="val_loss")
trainer = L.Trainer(
    max_epochs=-1,
    accelerator="cpu",
    callbacks=[callback],
    logger=[TensorBoardLogger("lightning_logs"), CSVLogger("lightning_logs")],
    log_every_n_steps=10,
    enable_progress_bar=False,
)
train = DataLoader(TensorDataset(*data.train), batch_size=64, shuffle=True)
trainer.fit(module, callback.loader(train), DataLoader(TensorDataset(*data.test), batch_size=1000))

history = callback.schedule.history
searched = sum(step.phase == "trial" for step in history)
print(f"{trainer.global_step} steps, {searched} of them search; highest LR {max(s.lr for s in history[searched:]):.3g}")
print(
    f"{data.name}: test accuracy {images.accuracy(module.model, data.test):.4f}; logs in {trainer.loggers[1].log_dir}"
)
