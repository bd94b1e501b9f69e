"""What a number was made with: versions, revision of the code, hardware. Nothing that names a machine or a person."""

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from common.run.processes import usable_cores

ROOT = Path(__file__).resolve().parents[3]

# The packages whose version can change a number.
PACKAGES = (
    "torch",
    "torchaudio",
    "lightning",
    "numpy",
    "scipy",
    "pandas",
    "sed-scores-eval",
    "librosa",
    "soundfile",
    "h5py",
    "codecarbon",
    "torchinfo",
)


def environment() -> dict[str, Any]:
    """Versions, code revision and hardware as JSON values; what cannot be found out is None.

    `code` outside a git checkout of this project (an installed copy, no git) is what the environment variable
    DCASE_REVISION says, or None. Packages that are not installed are None. Takes some 20 ms; imports nothing heavy.
    """
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "code": _code_revision(ROOT),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "ram_gib": _ram_gib(),
        "gpus": _gpus(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _output(*command: str) -> str | None:
    """Standard output of a command, or None when it is absent, fails or hangs."""
    if shutil.which(command[0]) is None:
        return None
    # Without optional locks `git status` only reads, so a commit going on at the same time is not disturbed.
    variables = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, env=variables, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _code_revision(root: Path) -> dict[str, Any] | None:
    """Commit of the checkout at `root` and whether tracked files differ from it."""
    top, _, revision = (_output("git", "-C", str(root), "rev-parse", "--show-toplevel", "HEAD") or "").partition("\n")
    # A copy installed inside somebody else's repository is not at that repository's revision.
    if not top or Path(top).resolve() != root.resolve():
        told = os.environ.get("DCASE_REVISION")  # a container image has it from its build
        return {"revision": told, "dirty": None} if told else None
    changes = _output("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "dirty": None if changes is None else bool(changes)}


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or None


def _ram_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def _gpus() -> list[str]:
    """Names of the GPUs: those that this process can use where torch is imported, else those of the machine."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    listed = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return listed.splitlines() if listed else []
