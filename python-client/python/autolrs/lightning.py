"""The schedule as a callback of Lightning; for `lightning` and for `pytorch_lightning`, 2.0 and later.

>>> from autolrs.lightning import AutoLRSCallback
>>> schedule = AutoLRSCallback(total_steps=20_000, job="resnet50")
>>> trainer = L.Trainer(max_epochs=-1, callbacks=[schedule])
>>> trainer.fit(model, schedule.loader(train_loader), val_loader)  # or train_loader: trials then see different batches

`configure_optimizers` returns one optimizer and no LR scheduler. The search tries LRs that diverge: a `training_step`
that checks its numbers returns None, for a loss that is none, instead of raising: the trial has diverged. Outside of
trials such a step is left out; after twenty in a row the loss counts as NaN, which the guards answer.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from autolrs._exceptions import AutoLRSWarning, Unsupported
from autolrs._follow import EXIT_TIMEOUT
from autolrs._framework import RepeatedBatches, StepLoss, TrialGate, check_options, opened, steps_enough
from autolrs.torch import Schedule

if TYPE_CHECKING:
    Callback = object
elif "pytorch_lightning" in sys.modules and "lightning" not in sys.modules:
    from pytorch_lightning import Callback
else:
    try:
        from lightning.pytorch import Callback
    except ImportError:
        from pytorch_lightning import Callback

__all__ = ["AutoLRSCallback"]

logger = logging.getLogger("autolrs")

# Callbacks that judge or keep weights, and the hooks in which they do.
_JUDGES = {"Checkpoint", "EarlyStopping"}
_JUDGING_HOOKS = ("on_train_batch_end", "on_train_epoch_end", "on_validation_end")

# Steps in a row without a loss, outside of trials, after which training counts as broken.
_SKIPPED_MOST = 20

_SHARDED = ("FSDP", "DeepSpeed", "ModelParallel")


class AutoLRSCallback(Callback):
    """Sets the LR of every optimizer step as the AutoLRS service decides, and ends the training with its schedule.

    While trials run there is no validation; ModelCheckpoint (any `Checkpoint`) and EarlyStopping rest, also until the
    first step after them; and what is logged, by whomever, goes to the loggers under `search/`. The trials' own values
    are `search/lr` and `search/loss`, those of kept steps `autolrs/lr` and `autolrs/committed_step`, every
    `log_every_n_steps`. Epoch averages (`on_epoch=True`) are taken over kept steps.

    The schedule's state is part of Lightning's checkpoints; `ckpt_path` of `trainer.fit` goes on with it. One written
    by hand during a search (`trainer.save_checkpoint`) leads back to the search's start. A gradient scaler
    (`precision="16-mixed"`) is put back after trials like the model; `WeightAveraging` takes in kept steps only.

    Parameters
    ----------
    total_steps : int or None
        Budget in optimizer steps, the search included, as of `autolrs.torch.Schedule`. The trainer must allow as many:
        `max_epochs=-1` leaves the end to the schedule.
    validation_loss : str, optional
        Name of a logged metric, for instance "val_loss", that is reported to the service after each validation.
    validate : function of the LightningModule, optional
        Measures the validation loss where the service asks for it (a float or a tensor of one number), as `validate` of
        `autolrs.torch.Schedule`.
    log : bool
        Whether LR and search are logged.
    options
        The others of `autolrs.torch.Schedule`: `job`, `server`, `policy`, `lr_range`, `restart`, `also`, ...

    Raises
    ------
    Unsupported
        When the fit starts: manual optimization or several optimizers, another LR scheduler, StochasticWeightAveraging,
        a sharding strategy.
    ValueError
        When the fit starts: `max_steps` or `max_epochs` ends the training before the schedule does.
    """

    def __init__(
        self,
        total_steps: int | None,
        *,
        validation_loss: str | None = None,
        validate: Callable[[Any], float | Tensor] | None = None,
        log: bool = True,
        **options: Any,
    ) -> None:
        check_options(options, "AutoLRSCallback")
        self._total_steps = total_steps
        self._validation_loss = validation_loss
        self._validate = validate
        self._log = log
        self._options = options
        self._schedule: Schedule | None = None
        self._state: dict[str, Any] | None = None
        self._loss = StepLoss()
        self._gate = TrialGate()
        self._in_trial = False
        self._begun = False
        self._stepped = 0
        self._skipped = 0
        self._limit_val_batches: int | float | None = None

    @property
    def schedule(self) -> Schedule:
        """The schedule: `phase`, `history`, `plot`, `finish` and so on. It is there from `on_train_start` on."""
        return opened(self._schedule)

    def loader(
        self, loader: Any, *, length: int | None = None, replay: str = "auto", replay_mb: float = 256
    ) -> RepeatedBatches:
        """The training loader, made so that trials see the same batches: they are compared more precisely.

        Parameters
        ----------
        loader : iterable, or function
            As of `Schedule.steps`. With several processes give the DataLoader its `DistributedSampler`: Lightning does
            not look into this one.
        length : int, optional
            Batches of an epoch; default `len(loader)`. Needed for a loader without a length: there Lightning draws a
            batch ahead, which could not be taken back.
        replay, replay_mb
            As of `Schedule.steps`.
        """
        return RepeatedBatches(lambda: self.schedule, loader, length, replay, replay_mb)

    # -- Lightning's hooks

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Refuses a `trainer` or `pl_module` that the schedule can't follow."""
        _refuse_unsupported(trainer, pl_module)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Opens the job, with the optimizer of `trainer` and the weights of `pl_module`."""
        if trainer.fast_dev_run:
            logger.info("fast_dev_run: the optimizer's own LR is used, and no job is made")
            return
        validate = self._validate
        also = [*self._options.get("also", ()), *_changed_by_steps(trainer)]
        schedule = Schedule(
            trainer.optimizers[0],
            pl_module,
            self._total_steps,
            **{**self._options, "also": also},
            validate=None if validate is None else lambda: validate(pl_module),
            resume=self._state,
        )
        schedule._open_session()  # raises what kept it from opening
        self._schedule, self._state = schedule, None
        self._begun, self._in_trial = False, schedule.searching
        self._stepped = trainer.global_step
        self._loss = StepLoss()
        steps_enough(
            schedule,
            self._total_steps,
            trainer.estimated_stepping_batches - trainer.global_step,
            "Give Trainer(max_epochs=-1): the schedule ends the training; or a larger max_steps.",
        )
        if schedule.done:
            trainer.should_stop = True
        self._rest(trainer)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Looks at `trainer` alone, not at `pl_module`, `batch` or `batch_idx`."""
        schedule = self._schedule
        if schedule is None:
            return
        if not self._begun:
            self._begun = True
            schedule._begin_loop()
        if self._in_trial and not schedule.searching:
            trainer.fit_loop.epoch_loop._results.reset()  # the epoch's averages begin anew
        self._in_trial = schedule.searching

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Holds the LR of `optimizer`, whatever `trainer` and `pl_module` have done to it."""
        if self._schedule is not None:
            self._schedule._hold_lr()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Reports the loss in `outputs` if `trainer` has made an optimizer step, and sets the LR of the next one;
        `pl_module`, `batch` and `batch_idx` are not looked at.
        """
        schedule = self._schedule
        if schedule is None:
            return
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is not None:
            self._loss.add(loss)
        if trainer.global_step == self._stepped:
            return
        self._stepped = trainer.global_step
        # Lightning has divided each batch's loss by the number that is usually accumulated.
        batches = self._loss.batches
        total = self._loss.take()
        if total is not None:
            mean = (
                total
                if batches == trainer.accumulate_grad_batches
                else total * trainer.accumulate_grad_batches / batches
            )
        elif self._in_trial or self._skipped >= _SKIPPED_MOST:
            mean = float("nan")
        else:
            self._skipped += 1
            return  # training_step gave no loss: nothing was learned
        self._skipped = 0 if total is not None else self._skipped
        lr, committed = schedule.lr, schedule.committed_step
        schedule.step(mean)
        if self._log and self._stepped % trainer.log_every_n_steps == 0:
            self._log_step(trainer, mean, lr, committed)
        if schedule.done:
            trainer.should_stop = True
        self._rest_validation(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Reports the metric `validation_loss` of `trainer`; `pl_module` is not looked at."""
        if self._validation_loss is None or self._schedule is None or trainer.sanity_checking or self._resting():
            return
        value = trainer.callback_metrics.get(self._validation_loss)
        if value is None:
            raise ValueError(
                f"validation_loss={self._validation_loss!r} is not logged: the validation logs "
                f"{', '.join(sorted(trainer.callback_metrics)) or 'nothing'}."
            )
        self._schedule.validation(float(value))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Gives `trainer` back as it was, and warns if the end came early; `pl_module` is not looked at."""
        self._wake(trainer)
        schedule = self._schedule
        if schedule is not None and not schedule.done:
            warnings.warn(
                f"Training has ended at step {schedule.total_step}, before the schedule is done. Fit again with "
                "ckpt_path= to go on.",
                AutoLRSWarning,
                stacklevel=2,
            )

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Gives `trainer` back as it was, and leaves the job, whatever `exception` and `pl_module` are."""
        self._wake(trainer)
        self._close(EXIT_TIMEOUT)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Gives `trainer` back as it was, and leaves the job, whatever `stage` and `pl_module` are."""
        self._wake(trainer)
        self._close()

    def state_dict(self) -> dict[str, Any]:
        """What Lightning's checkpoints keep of the schedule."""
        if self._state is not None:  # from a checkpoint, or of the fit that has ended
            return {"schedule": self._state}
        return {} if self._schedule is None else {"schedule": self._schedule.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes `state_dict` from a checkpoint; the fit that follows goes on there."""
        self._state = state_dict.get("schedule")

    # -- while trials run

    def _resting(self) -> bool:
        """Whether the last step was one of a trial, or the next one is."""
        return self._in_trial or (self._schedule is not None and self._schedule.searching)

    def _rest(self, trainer: Any) -> None:
        def unless_resting(hook: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *args, **kwargs: None if self._resting() else hook(*args, **kwargs)

        def under_search(log_metrics: Callable[..., Any]) -> Callable[..., Any]:
            def log(metrics: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
                return log_metrics(_renamed(metrics) if self._in_trial else metrics, *args, **kwargs)

            return log

        for callback in trainer.callbacks:
            if _JUDGES & _kinds(callback):
                for name in _JUDGING_HOOKS:
                    self._gate.shadow(callback, name, unless_resting)
            elif "WeightAveraging" in _kinds(callback):
                self._gate.shadow(callback, "on_train_batch_end", partial(self._after_kept_steps, trainer, callback))
        for each in trainer.loggers:
            self._gate.shadow(each, "log_metrics", under_search)
        self._limit_val_batches = trainer.limit_val_batches
        self._rest_validation(trainer)

    def _after_kept_steps(self, trainer: Any, averages: Any, hook: Callable[..., Any]) -> Callable[..., Any]:
        def update(*args: Any, **kwargs: Any) -> None:
            if self._in_trial:
                averages._latest_update_step = trainer.global_step
            else:
                hook(*args, **kwargs)

        return update

    def _rest_validation(self, trainer: Any) -> None:
        trainer.limit_val_batches = 0 if self._resting() else self._limit_val_batches

    def _wake(self, trainer: Any) -> None:
        self._gate.open()
        if self._limit_val_batches is not None:
            trainer.limit_val_batches = self._limit_val_batches
            self._limit_val_batches = None

    # -- further

    def _log_step(self, trainer: Any, loss: Tensor | float, lr: float, committed: int) -> None:
        if self._in_trial:
            metrics = {"search/lr": lr, "search/loss": float(loss)}
        else:
            metrics = {"autolrs/lr": lr, "autolrs/committed_step": committed}
        for each in trainer.loggers:
            each.log_metrics(metrics, step=self._stepped - 1)  # as Lightning counts

    def _close(self, timeout: float = 10.0) -> None:
        if self._schedule is not None and self._state is None:
            self._state = self._schedule.state_dict()
            self._schedule.close(timeout)


def _renamed(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of a trial; "epoch" is Lightning's count."""
    return {
        name if name == "epoch" or name.startswith("search/") else f"search/{name}": value
        for name, value in metrics.items()
    }


def _kinds(thing: object) -> set[str]:
    """Names of its classes: they are the same in `lightning` and `pytorch_lightning`."""
    return {kind.__name__ for kind in type(thing).__mro__}


def _changed_by_steps(trainer: Any) -> list[Any]:
    """What a step changes besides model and optimizer: the gradient scaler, averaged weights."""
    changed = [getattr(trainer.precision_plugin, "scaler", None)]
    changed += [
        getattr(each, "_average_model", None) for each in trainer.callbacks if "WeightAveraging" in _kinds(each)
    ]
    return [thing for thing in changed if thing is not None]


def _refuse_unsupported(trainer: Any, pl_module: Any) -> None:
    if not pl_module.automatic_optimization:
        raise Unsupported(
            "AutoLRSCallback does not know when a LightningModule with manual optimization steps its optimizer. Use "
            "autolrs.torch.Schedule in its training_step, or automatic optimization."
        )
    if len(trainer.optimizers) != 1:
        raise Unsupported(
            f"configure_optimizers gives {len(trainer.optimizers)} optimizers; AutoLRSCallback schedules one."
        )
    schedulers = [type(config.scheduler).__name__ for config in trainer.lr_scheduler_configs]
    if schedulers:
        raise Unsupported(
            f"configure_optimizers gives another LR scheduler, {', '.join(schedulers)}. Return the optimizer alone: "
            "warm-up and cooldown are part of the schedule."
        )
    for callback in trainer.callbacks:
        if "StochasticWeightAveraging" in _kinds(callback):
            raise Unsupported(
                "StochasticWeightAveraging sets an LR of its own. Remove it; WeightAveraging and EMAWeightAveraging "
                "leave the LR alone."
            )
    if sum("AutoLRSCallback" in _kinds(callback) for callback in trainer.callbacks) > 1:
        raise Unsupported("There are two AutoLRSCallbacks: the LR can follow one schedule only.")
    strategy = type(trainer.strategy).__name__
    if any(name in strategy for name in _SHARDED):
        raise Unsupported(f"{strategy} shards the training's state, which can't be put back after a trial. Use ddp.")
