"""What a measurement was made on."""

import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch as th

from sb3_latent.files import atomic_path


def describe() -> dict[str, Any]:
    """:return: processor, threads, versions and commit, as plain data."""
    packages = ("sb3_latent", "stable_baselines3", "sb3_contrib", "torch", "gymnasium", "numpy")
    return {
        "processor": _processor(),
        "n_cores": os.cpu_count(),
        "n_threads": th.get_num_threads(),
        "device": th.cuda.get_device_name() if th.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "commit": _commit(),
    }


def write_json(path: str | Path, command: str, results: Any) -> None:
    """
    :param path: file to write, whole or not at all.
    :param command: what made the results.
    :param results: plain data.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        Path(temporary).write_text(
            json.dumps({"command": command, "machine": describe(), "results": results}, indent=2) + "\n"
        )
    print(f"wrote {path}")


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str:
    try:
        run = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return run.stdout.strip()
