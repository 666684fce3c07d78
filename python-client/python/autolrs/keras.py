"""A learning-rate schedule from the AutoLRS service, as a callback for Keras 3.

>>> import autolrs.keras as autolrs
>>> model.compile(keras.optimizers.Adam(1e-3), loss="sparse_categorical_crossentropy")
>>> schedule = autolrs.Schedule(model, 20_000, job="resnet50", callbacks=[keras.callbacks.ModelCheckpoint(...)])
>>> model.fit(schedule.steps(loader), steps_per_epoch=400, epochs=50, callbacks=[schedule])

The search tries LRs that diverge; they run from a copy of model and optimizer, which is put back to the bit. Callbacks
that look at weights or losses go into `callbacks=`: during a search they are not called.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat

import keras
import numpy as np

from autolrs._exceptions import Error, Unsupported
from autolrs._families import lr_range_of
from autolrs._keras_state import (
    BatchLoss,
    KerasSlots,
    all_variables,
    assign,
    numbers,
    restore_generators,
    save_generators,
)
from autolrs._options import Options, request_of, searches, with_options
from autolrs._session import BaseSchedule

if TYPE_CHECKING:
    from autolrs._options import Unpack

__all__ = ["Schedule"]

# They set the LR themselves.
_SCHEDULERS = ("LearningRateScheduler", "ReduceLROnPlateau")
# They would keep, judge or exchange the weights of trials.
_WATCHERS = (
    "BackupAndRestore",
    "EarlyStopping",
    "ModelCheckpoint",
    "OrbaxCheckpoint",
    "SwapEMAWeights",
    "TerminateOnNaN",
)


@with_options
class Schedule(BaseSchedule, keras.callbacks.Callback):
    """Follows the learning rates that the service decides for one `model.fit`.

    `fit` ends when the budget is spent: give it at least `total_steps / steps_per_epoch` epochs.

    Parameters
    ----------
    model : keras.Model
        Built and compiled; the optimizer's LR is a number.
    total_steps : int or None
        Budget in optimizer steps; the search's are included (at most a tenth of it with the default policy). With
        `gradient_accumulation_steps` several batches are one step. None with "scan": not known yet; end it with
        `finish()`. None with "replay": the steps of its schedule.
    lr_range : (float, float), optional
        Lowest and highest LR that are *tried*; default by the optimizer's family.
    fallback_lr : float, optional
        Used where nothing is measured, and by the plain policies; default the optimizer's own LR.
    validate : function without arguments, optional
        Measures the validation loss, for instance `lambda: model.evaluate(x, y, verbose=0)`. Called after steps that
        the service names, in the middle of epochs too; metrics are put back. Without it, the `val_loss` of `fit` is
        reported at the ends of epochs.
    callbacks : sequence of keras.callbacks.Callback
        Called as `fit` would, except on weights of a trial: then neither batches nor the ends of epochs nor
        evaluations reach them.
    backup : path, optional
        A file that holds model, optimizer and schedule, written at the end of every epoch; if it is there, training
        goes on from it. It is a pickle: read only what you have written.
    backup_every : int, optional
        Write it after so many steps as well.
    resume : mapping, optional
        The `state_dict()` of an earlier schedule, as with `load_state_dict`.
    """

    def __init__(
        self,
        model: Any,
        total_steps: int | None,
        *,
        lr_range: tuple[float, float] | None = None,
        fallback_lr: float | None = None,
        validate: Callable[[], SupportsFloat] | None = None,
        callbacks: Sequence[Any] = (),
        backup: str | os.PathLike[str] | None = None,
        backup_every: int | None = None,
        resume: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> None:
        keras.callbacks.Callback.__init__(self)
        _refuse_unsupported(model)
        _refuse(callbacks, _SCHEDULERS, "it sets the LR itself: remove it")
        keras.callbacks.Callback.set_model(self, model)
        self._inner = list(callbacks)
        self._validate = validate
        self._backup = Path(backup) if backup is not None else None
        self._backup_every = backup_every
        self._losses: list[float] = []
        self._told = False
        self._starting = False
        # Where the random number generators stood in the checkpoint that training goes on from.
        self._generators: Any = None
        optimizer = model.optimizer
        if not optimizer.built:
            optimizer.build(model.trainable_variables)
        self._lr_dtype = np.dtype(optimizer.learning_rate.dtype)
        if lr_range is None and searches(options):
            lr_range = lr_range_of(getattr(optimizer, "inner_optimizer", optimizer))
        saved = self._read_backup() if resume is None else None
        if saved is not None:
            assign(all_variables(self.model), saved["variables"])
            restore_generators(saved["generators"])
            resume = saved["schedule"]
        if fallback_lr is None:
            fallback_lr = resume["base"] if resume is not None else float(_value(optimizer.learning_rate))
        self._base = fallback_lr
        request = request_of(
            options,
            total_steps=total_steps,
            lr_range=lr_range,
            fallback_lr=fallback_lr,
            validate=validate is not None,
            switch_every=1,
            resume=resume,
        )
        super().__init__(request, KerasSlots(self))
        if resume is None:
            self._open()
        else:
            self.load_state_dict(resume)
            self._generators = save_generators()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint file needs to go on here, beside model and optimizer; for `pickle`.

        During a search it holds the state of model and optimizer at the search's start: loading it puts them back.
        """
        return {**super().state_dict(), "base": self._base}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was taken. Load model and optimizer from the same checkpoint before."""
        plain = dict(state)
        self._base = plain.pop("base")
        super().load_state_dict(plain)

    def steps(  # type: ignore[override]
        self, loader: Any, accumulate: int = 1, replay: str = "auto", replay_mb: float = 256
    ) -> Iterator[Any]:
        """A generator of batches for `fit`, which trials see anew; give `steps_per_epoch` with it.

        >>> model.fit(schedule.steps(loader), steps_per_epoch=400, epochs=50, callbacks=[schedule])

        Data that is given to `fit` itself trains as well, but trials then see different batches. Where Keras draws
        batches ahead of their steps (JAX on an accelerator: one), the first batches of a trial are those of the one
        before.

        Parameters
        ----------
        loader : iterable, or function
            Gives tuples `(inputs, targets)`; else as in the other frameworks.
        accumulate : int
            Must be 1: Keras accumulates by the optimizer's `gradient_accumulation_steps`.
        replay, replay_mb : as in the other frameworks
        """
        if accumulate != 1:
            raise Unsupported("Keras accumulates by itself: keras.optimizers.Adam(..., gradient_accumulation_steps=4).")
        steps = super().steps(loader, accumulate, replay, replay_mb)
        return (batch for batch in steps)  # Keras takes generators, not iterators of other kinds

    # -- what Keras calls

    def set_model(self, model: Any) -> None:
        """Called by Keras."""
        if model is not self._model:
            raise Error("This schedule was made for another model: make one for the model that is trained.")
        for callback in self._inner:
            callback.set_model(model)

    def set_params(self, params: Any) -> None:
        """Called by Keras."""
        keras.callbacks.Callback.set_params(self, params)
        for callback in self._inner:
            callback.set_params(params)

    def on_train_begin(self, logs: Any = None) -> None:
        """Called by Keras."""
        session = self._open_session()
        beside = _beside(self)
        _refuse(beside, _SCHEDULERS, "it sets the LR itself: remove it")
        _refuse(beside, _WATCHERS, "it would act on weights of trials: give it to Schedule(callbacks=[...])")
        if session.done:
            raise Error(f"The schedule is done ({session.done_reason}): there is nothing left to train.")
        self._tell("on_train_begin", logs)
        self._loss = BatchLoss(self.model)
        self._starting = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Called by Keras."""
        self._tell("on_epoch_begin", epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Called by Keras."""
        if self._starting:
            self._starting = False
            self._begin_fit()
        if batch == 0:  # the variables are at hand: at the beginning of an epoch nothing has to be brought up to date
            self._reclaim()
        self._tell_kept("on_train_batch_begin", batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Called by Keras."""
        self._tell_kept("on_train_batch_end", batch, logs)
        self._losses.append(self._loss.read(self._model))
        accumulated = getattr(self._model.optimizer, "gradient_accumulation_steps", None) or 1
        if len(self._losses) < accumulated:
            return
        loss = sum(self._losses) / len(self._losses)
        self._losses.clear()
        self._report(loss)
        if self._open_session().done:
            self._model.stop_training = True
        if self._backup_every and len(self._history) % self._backup_every == 0:
            self._write_backup()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Called by Keras. Later callbacks, Keras' own history among them, see the LR, and what was measured on the
        weights of a trial as `search/loss` and so on."""
        if logs is not None:
            if self.searching:
                measured = {f"search/{name}": logs.pop(name) for name in list(logs)}
                logs.update(measured, **{"search/learning_rate": self.lr})
            else:
                logs["learning_rate"] = self.lr
                if self._validate is None and "val_loss" in logs:
                    self.validation(logs["val_loss"])
        self._tell_kept("on_epoch_end", epoch, logs)
        self._write_backup()

    def on_test_begin(self, logs: Any = None) -> None:
        """Called by Keras."""
        self._tell_kept("on_test_begin", logs)

    def on_test_end(self, logs: Any = None) -> None:
        """Called by Keras."""
        self._tell_kept("on_test_end", logs)

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Called by Keras."""
        self._tell_kept("on_test_batch_begin", batch, logs)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Called by Keras."""
        self._tell_kept("on_test_batch_end", batch, logs)

    def on_train_end(self, logs: Any = None) -> None:
        """Called by Keras."""
        self._tell("on_train_end", logs)
        if not self._open_session().done:
            self._warn(
                f"fit has ended after {self.total_step} steps, but the schedule is not done: call fit again with the "
                "same schedule to go on, or give it more epochs."
            )

    def _begin_fit(self) -> None:
        """The first step of a `fit` is about to run: what Keras did before it, building and drawing, is done."""
        if self._generators is not None:
            restore_generators(self._generators)
            self._generators = None
        self._refresh()
        if self._waiting:
            self._advance()
        elif self._live and self._unstarted:
            self._settle()

    def _tell(self, hook: str, *arguments: Any) -> None:
        for callback in self._inner:
            getattr(callback, hook)(*arguments)

    def _tell_kept(self, hook: str, *arguments: Any) -> None:
        if not self.searching:
            self._tell(hook, *arguments)

    # -- what the schedule needs of Keras

    def _apply_lr(self, lr: float) -> None:
        # Reading `model` brings a JAX state up to date; the next step starts from the variables.
        self.model.optimizer.learning_rate = lr

    def _reclaim(self) -> None:
        """If the LR is not ours: ours wins, and the user hears of it once."""
        found = float(_value(self.model.optimizer.learning_rate))
        if found == float(self._lr_dtype.type(self._lr)):
            return
        self._apply_lr(self._lr)
        if not self._told:
            self._told = True
            self._warn(
                f"Somebody else set the LR to {found:g}; the schedule's is {self._lr:g}, and it is in force again. "
                "(This is said once.)"
            )

    def _pending_losses(self) -> list[float]:
        return []

    def _measured_validation(self) -> float:
        assert self._validate is not None  # the request promised it
        model = self.model
        metrics = model.metrics_variables
        kept, training, generators = numbers(metrics), getattr(model, "training", None), save_generators()
        loss = float(self._validate())
        assign(metrics, kept)
        restore_generators(generators)
        if keras.backend.backend() == "torch":
            model.train(training)
        return loss

    # -- the backup

    def _write_backup(self) -> None:
        if self._backup is None or self._session is None:
            return
        state = {
            "variables": numbers(all_variables(self.model)),
            "generators": save_generators(),
            "schedule": self.state_dict(),
        }
        new = self._backup.with_name(self._backup.name + ".new")
        new.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(pickle.dumps(state))
        os.replace(new, self._backup)  # the old file or the new one, whenever the process is killed

    def _read_backup(self) -> Any:
        if self._backup is None or not self._backup.exists():
            return None
        return pickle.loads(self._backup.read_bytes())


def _value(variable: Any) -> Any:
    return keras.ops.convert_to_numpy(variable.value)


def _refuse_unsupported(model: Any) -> None:
    optimizer = getattr(model, "optimizer", None)
    if not model.built or optimizer is None:
        raise Error("Build and compile the model before the Schedule is made: model.build(shape), model.compile(...).")
    if not isinstance(getattr(optimizer, "learning_rate", None), keras.Variable):
        raise Unsupported(
            "The optimizer's learning rate is not a number that can be set. Compile the model with one, for instance "
            "keras.optimizers.Adam(1e-3), without a LearningRateSchedule."
        )
    if (getattr(model, "steps_per_execution", 1) or 1) > 1:
        raise Unsupported("With steps_per_execution the losses of single steps are not known: compile without it.")


def _refuse(callbacks: Sequence[Any], names: tuple[str, ...], why: str) -> None:
    for callback in callbacks:
        if any(kind.__name__ in names for kind in type(callback).__mro__):
            raise Unsupported(f"{type(callback).__name__} can't run beside this schedule: {why}.")


def _beside(schedule: Schedule) -> list[Any]:
    """The other callbacks of `fit`. Keras does not tell a callback of them: the list that calls this one is asked."""
    frame = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.callbacks.CallbackList) and schedule in caller.callbacks:
            return [callback for callback in caller.callbacks if callback is not schedule]
        if frame.f_back is None:
            break
        frame = frame.f_back
    return []
