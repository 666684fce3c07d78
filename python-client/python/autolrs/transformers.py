"""The schedule as a callback of Hugging Face's Trainer; for transformers 4.36 and later.

>>> from autolrs.transformers import AutoLRSCallback
>>> arguments = TrainingArguments(..., learning_rate=1e-3, lr_scheduler_type="constant", max_steps=20_000)
>>> trainer = Trainer(model=model, args=arguments, train_dataset=data)
>>> trainer.add_callback(AutoLRSCallback(trainer, total_steps=20_000, job="bert"))
>>> trainer.train()

The search tries LRs that diverge: a `compute_loss` that checks its numbers returns a loss that is NaN instead of
raising.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from autolrs._exceptions import AutoLRSWarning, Unsupported
from autolrs._framework import RepeatedBatches, StepLoss, check_options, opened, steps_enough
from autolrs.torch import Schedule

if TYPE_CHECKING:
    TrainerCallback = object
else:
    from transformers import TrainerCallback

__all__ = ["AutoLRSCallback"]

# Under this name the schedule's state is kept in the Trainer's file scheduler.pt.
_KEY = "autolrs"


class AutoLRSCallback(TrainerCallback):
    """Sets the LR of every optimizer step as the AutoLRS service decides, and ends the training with its schedule.

    It needs the Trainer itself, since callbacks are not told the loss: make it with the Trainer, then `add_callback`
    it. One Trainer and one `train` each; for another make both anew.

    While trials run nothing is evaluated or saved, and the Trainer logs no `loss`: `search/loss` and `search/lr` are
    logged instead, at the same steps. The next `loss` is the mean since the last trial, and `train_loss` at the end is
    that of kept steps.

    The Trainer's own scheduler is put aside; `lr_scheduler_type="constant"` and no warm-up are asked for, so that
    nobody believes in another schedule. The schedule's state is in the checkpoint's `scheduler.pt`;
    `resume_from_checkpoint` of `trainer.train` goes on with it. One written during a search leads back to its start.

    Parameters
    ----------
    trainer : transformers.Trainer
        The one that the callback is added to, before its `train`.
    total_steps : int or None
        Budget in optimizer steps, the search included, as of `autolrs.torch.Schedule`. `max_steps`, or what
        `num_train_epochs` comes to, must be as large. After a restart from a checkpoint that was written in a search it
        must be larger by the steps that are run again.
    replay : "auto" or "off"
        Whether trials see the same batches, as of `Schedule.steps`: batches of the Trainer's loader are kept while
        trials run. With "auto", and after a restart, the schedule also finds the batch to go on with: give
        `ignore_data_skip=True`.
    replay_mb : float
        Limit for the batches that are kept, per process.
    log : bool
        Whether the search is logged.
    options
        The others of `autolrs.torch.Schedule`: `job`, `server`, `policy`, `lr_range`, `restart`, `also`, ...

    Raises
    ------
    Unsupported
        When training starts: another LR scheduler or warm-up, DeepSpeed or FSDP.
    ValueError
        When training starts: it would end before the schedule does, or `ignore_data_skip=True` is missing at a restart.
    """

    def __init__(
        self,
        trainer: Any,
        total_steps: int | None,
        *,
        replay: str = "auto",
        replay_mb: float = 256,
        log: bool = True,
        **options: Any,
    ) -> None:
        check_options(options, "AutoLRSCallback")
        if replay not in ("auto", "off"):
            raise ValueError(f'replay must be "auto" or "off", not {replay!r}')
        _refuse_scheduler(trainer)
        self._trainer = trainer
        self._total_steps = total_steps
        self._replay = replay
        self._log = log
        self._options = options
        self._schedule: Schedule | None = None
        self._loss = StepLoss()
        self._begun = False
        self._in_trial = False
        self._trial_steps = 0
        trainer.training_step = self._observed(trainer.training_step)
        if replay == "auto":
            trainer.get_train_dataloader = self._repeated(trainer.get_train_dataloader, replay_mb)

    @property
    def schedule(self) -> Schedule:
        """The schedule: `phase`, `history`, `plot`, `finish` and so on. It is there from `on_train_begin` on."""
        return opened(self._schedule)

    # -- the Trainer's events

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Opens the job; `args`, `state` and `kwargs` are checked and `control` ends a training that is done."""
        trainer = self._trainer
        _refuse_sharded(trainer)
        own = trainer.lr_scheduler
        saved = vars(own).pop(_KEY, None)
        if state.global_step > 0 and self._replay == "auto" and not args.ignore_data_skip:
            raise ValueError(
                "The schedule finds the batch to go on with by itself: set TrainingArguments(ignore_data_skip=True), "
                'or give AutoLRSCallback(replay="off").'
            )
        scaler = getattr(trainer.accelerator, "scaler", None)
        schedule = Schedule(
            _innermost(trainer.optimizer),
            trainer.model,
            self._total_steps,
            **{**self._options, "also": [*self._options.get("also", ()), *([] if scaler is None else [scaler])]},
            resume=saved,
        )
        schedule._open_session()  # raises what kept it from opening
        self._schedule = schedule
        self._in_trial = schedule.searching
        trainer.lr_scheduler = trainer.callback_handler.lr_scheduler = _SetAside(own, schedule)
        steps_enough(
            schedule,
            self._total_steps,
            state.max_steps - state.global_step,
            "Set a larger TrainingArguments(max_steps=...): the schedule ends the training.",
        )
        if schedule.done:
            control.should_training_stop = True

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begins the schedule's loop at the first step; `args`, `state`, `control` and `kwargs` are not looked at."""
        schedule = self.schedule
        if not self._begun:
            self._begun = True
            schedule._begin_loop()
        if self._in_trial and not schedule.searching:
            self._trainer._globalstep_last_logged = state.global_step  # the mean `loss` begins anew
        self._in_trial = schedule.searching

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Holds the LR; `args`, `state`, `control` and `kwargs` are not looked at."""
        self.schedule._hold_lr()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Reports the loss, sets the LR of the next step, and takes back in `control` what is not for weights of a
        trial; `args`, `state` and `kwargs` are those of all events."""
        schedule, lr = self.schedule, self.schedule.lr
        loss = self._loss.take()
        if loss is not None:
            schedule.step(loss)
        if self._in_trial:
            self._trial_steps += 1
            if control.should_log and self._log and loss is not None:
                self._trainer.log({"search/loss": float(loss), "search/lr": lr})
            control.should_log = False
        if schedule.done:
            control.should_training_stop = control.should_log = True
        self._rest(control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """As `on_step_end`, with `args`, `state`, `control` and `kwargs`, for what is done once an epoch."""
        trainer = self._trainer
        if self._in_trial:
            control.should_log = False
        self._rest(control)
        if control.should_training_stop and self._trial_steps < state.global_step:
            # The mean over all steps becomes that of kept ones: trials have added nothing to the sum.
            steps = state.global_step - getattr(trainer, "_initial_global_step", 0)
            trainer._total_loss_scalar *= steps / max(steps - self._trial_steps, 1)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leaves the job, and warns if it ends early; `args`, `state`, `control` and `kwargs` are not looked at."""
        schedule = self.schedule
        if not schedule.done:
            warnings.warn(
                f"Training has ended at step {schedule.total_step}, before the schedule is done. Go on with "
                "train(resume_from_checkpoint=...).",
                AutoLRSWarning,
                stacklevel=2,
            )
        schedule.close()

    # -- around the Trainer's methods

    def _rest(self, control: Any) -> None:
        if self.schedule.searching:
            control.should_evaluate = control.should_save = False

    def _observed(self, training_step: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def observed(*args: Any, **kwargs: Any) -> Tensor:
            loss = training_step(*args, **kwargs)
            self._loss.add(loss)
            return torch.zeros_like(loss) if self._in_trial else loss

        return observed

    def _repeated(self, get_train_dataloader: Callable[[], Any], replay_mb: float) -> Callable[[], Any]:
        def repeated() -> Any:
            return RepeatedBatches(lambda: self.schedule, get_train_dataloader(), None, "auto", replay_mb, skip=True)

        return repeated


class _SetAside:
    """What the Trainer takes for its LR scheduler: steps nothing, and keeps the schedule's state with the own one's."""

    def __init__(self, own: Any, schedule: Schedule) -> None:
        self._own = own
        self._schedule = schedule

    def step(self, *args: Any, **kwargs: Any) -> None:
        """The schedule sets the LR."""

    def get_last_lr(self) -> list[float]:
        return self._schedule.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        return {**self._own.state_dict(), _KEY: self._schedule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing is loaded while training."""


def _innermost(optimizer: Any) -> Any:
    """PyTorch's optimizer in accelerate's."""
    while type(optimizer).__name__ == "AcceleratedOptimizer":
        optimizer = optimizer.optimizer
    return optimizer


def _refuse_scheduler(trainer: Any) -> None:
    args = trainer.args
    if trainer.lr_scheduler is not None:
        raise Unsupported(
            f"The Trainer was given another LR scheduler, {type(trainer.lr_scheduler).__name__}, or has trained "
            "before. Make it anew with optimizers=(optimizer, None)."
        )
    name = str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type))
    if name != "constant" or args.warmup_steps or getattr(args, "warmup_ratio", 0):
        raise Unsupported(
            f'The Trainer has an LR schedule of its own, lr_scheduler_type="{name}". Set '
            'TrainingArguments(lr_scheduler_type="constant", warmup_steps=0): warm-up and cooldown are part of the '
            "schedule."
        )


def _refuse_sharded(trainer: Any) -> None:
    for kind in ("deepspeed", "fsdp"):
        if getattr(trainer, f"is_{kind}_enabled", False):
            raise Unsupported(f"{kind} shards the training's state, which can't be put back after a trial. Use DDP.")
