"""The shell blocks of deploy/README.md, as commands."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from engine import ROOT

README = ROOT / "deploy/README.md"


def commands(section: str) -> list[str]:
    """Every command of the blocks under this heading, without comments, in order."""
    (text,) = re.findall(rf"^## {section}.*?\n(.*?)(?=^## |\Z)", README.read_text(), re.M | re.S)
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    stripped = (re.sub(r"\s+# .*$| {3,}#.*$", "", line).strip() for line in lines)
    return [re.sub(r"\s+", " ", line) for line in stripped if line]


def fresh(folder: Path) -> Path:
    """The repository as a clone would have it, with the changes of this tree."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        source = ROOT / name
        if source.exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            # With its times, so that podman knows the layers of earlier builds again.
            shutil.copy2(source, folder / name, follow_symlinks=False)
    return folder
