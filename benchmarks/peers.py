"""Other libraries to compare with, each in an environment of its own that shares the packages of the present one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_with(*requirements: str) -> None:
    """Go on in an environment that has these packages; made under ``.venv/peers`` if it is not there yet.

    Returns at once where all of them can be imported; else the script starts again in the other environment, and this
    process ends with its exit status.
    """
    modules = [requirement.partition("=")[0].replace("-", "_") for requirement in requirements]
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if not missing:
        return
    if os.environ.get("SUPER_SELFISH_PEERS"):
        sys.exit(f"{', '.join(missing)} cannot be imported from {sys.executable}.")
    folder = ROOT / ".venv" / "peers" / "-".join(sorted(modules))
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not (folder / "complete").is_file():
        print(f"Installing {', '.join(requirements)} into {folder.relative_to(ROOT)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        site = subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip
        Path(site, "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
        subprocess.run(
            [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *requirements], check=True
        )
        (folder / "complete").touch()
    again = subprocess.run([python, *sys.argv], env=os.environ | {"SUPER_SELFISH_PEERS": "1"}, check=False)
    sys.exit(again.returncode)
