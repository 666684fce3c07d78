"""Slots on disk, for states of which no memory holds two copies more.

The files lie in a directory of this process, of mode 0700, which goes when the schedule is closed, or at the
interpreter's exit. What a killed process left is removed by the next one of the same user on the same machine. A lock
on the directory says that its process is alive: unlike a process number it can't pass to a stranger, it holds across
containers, and systemd's cleaning of old temporary files respects it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import tempfile
import weakref
from pathlib import Path

from autolrs._capture import Capture, Content
from autolrs._exceptions import Error
from autolrs._slot_file import Damaged, SlotFile


class DiskStore:
    """Keeps the contents of slots in files.

    Parameters
    ----------
    parent : the directory in which the process makes its own; default the system's for temporary files
    """

    def __init__(self, parent: str | os.PathLike[str] | None) -> None:
        self._parent = Path(tempfile.gettempdir() if parent is None else parent).absolute()
        self._files: dict[str, SlotFile] = {}
        self._directory: _Directory | None = _Directory(self._parent)

    def save(self, name: str, capture: Capture) -> None:
        """Writes what `capture` finds.

        Raises
        ------
        Error
            The disk is full or has failed; an older content of the slot is still there.
        """
        if self._directory is None:
            self._directory = _Directory(self._parent)
        try:
            file = SlotFile(self._directory.path / f"{name}.slot", capture)
        except OSError as failure:
            raise Error(
                f"Checkpoint slot {name} could not be written to {self._directory.path} ({failure.strerror}; "
                f"{_megabytes_free(self._parent):.1f} MB are free). Model and optimizer are as the last step left "
                'them. Make room, or use another slots_directory or slots="host".'
            ) from failure
        old = self._files.get(name)
        self._files[name] = file
        if old is not None:
            old.close()

    def content(self, name: str) -> Content:
        """What the slot holds; its tensors are read from the file as they are used.

        Raises
        ------
        Error
            The file is not what was written.
        """
        if name not in self._files:
            raise Error(
                f"Checkpoint slot {name} was on disk and has been removed with the schedule's closing. "
                "Take state_dict() before."
            )
        try:
            return self._files[name].content()
        except Damaged:
            raise Error(
                f"Checkpoint slot {name} on disk is not what was written ({self.place()}): another process or the disk "
                "has changed it. Nothing was put back: model and optimizer are as the last step left them. Go on from "
                "a checkpoint of your own."
            ) from None

    def drop(self, name: str) -> None:
        """Removes the slot's file."""
        file = self._files.pop(name, None)
        if file is not None and self._directory is not None:
            file.close()
            (self._directory.path / f"{name}.slot").unlink(missing_ok=True)

    def names(self) -> list[str]:
        """The slots that hold something."""
        return list(self._files)

    def place(self) -> str:
        """Where the slots are, to be told to people."""
        path = self._parent if self._directory is None else self._directory.path
        return f"the disk at {path}, where {_megabytes_free(self._parent):.1f} MB are free"

    def close(self) -> None:
        """Removes all of it."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        if self._directory is not None:
            self._directory.remove()
            self._directory = None


_PREFIX = f"autolrs-slots-{platform.node()}-"


class _Directory:
    """The directory of this process, locked while it lives."""

    def __init__(self, parent: Path) -> None:
        _remove_leftovers(parent)
        self.path, lock = _made(parent)
        self.remove = weakref.finalize(self, _remove, self.path, lock, os.getpid())


def _made(parent: Path) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
        try:
            lock = _opened(path)
        except FileNotFoundError:
            continue  # another process took it for a leftover: it was not locked yet
        with contextlib.suppress(OSError):  # a file system without locks: then nobody removes leftovers either
            fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return path, lock
        os.close(lock)


def _remove_leftovers(parent: Path) -> None:
    for entry in os.scandir(parent):
        if not entry.name.startswith(_PREFIX) or not entry.is_dir(follow_symlinks=False):
            continue
        with contextlib.suppress(OSError):  # it is another user's, or its process lives, or it is gone already
            lock = _opened(Path(entry.path))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_uid == os.geteuid():
                    shutil.rmtree(entry.path)
            finally:
                os.close(lock)


def _opened(directory: Path) -> int:
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _remove(path: Path, lock: int, pid: int) -> None:
    if os.getpid() == pid:  # not in a forked child
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _megabytes_free(path: Path) -> float:
    return shutil.disk_usage(path).free / 1e6
