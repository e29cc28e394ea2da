"""Downloads of published weights, and the folders in which they are cached."""

from __future__ import annotations

import logging
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

import torch

from super_selfish.errors import CheckpointError

logger = logging.getLogger("super_selfish")

HUGGING_FACE = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
_ANSWER_SECONDS = 10.0


def hub_folder() -> Path:
    """The folder in which ``torch.hub`` caches weights."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def is_in_hub_cache(repository: str | None) -> bool:
    """Whether the cache of huggingface_hub has a repository, so that no network access is needed."""
    home = os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")
    folder = Path(os.environ.get("HF_HUB_CACHE") or Path(home, "hub"))
    return bool(repository) and any(folder.glob(f"models--{str(repository).replace('/', '--')}/snapshots/*/*"))


def check_reachable(url: str, target: Path) -> None:
    """Check that a server answers; huggingface_hub would repeat its requests for most of a minute, and log each.

    Raises:
        CheckpointError: If it does not.
    """
    logger.warning("Downloading %s.", url)
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "yes", "true"):
        return  # huggingface_hub sends no request
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_ANSWER_SECONDS):
            pass
    except urllib.error.HTTPError:
        return  # it answers
    except OSError as error:
        raise not_fetched(url, target, error) from error


def cached(url: str, fetch: bool) -> Path | None:
    """Path of a file in the cache, after a download if necessary; None: not cached, and not to be fetched.

    Raises:
        CheckpointError: If it cannot be downloaded.
    """
    path = hub_folder() / Path(urlparse(url).path).name
    if path.is_file():
        return path
    if not fetch:
        return None
    digest = re.search(r"-([0-9a-f]{8,})\.", path.name)
    logger.warning("Downloading %s to %s.", url, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), None if digest is None else digest[1], progress=False)
    except (OSError, RuntimeError) as error:  # RuntimeError: the digest differs
        raise not_fetched(url, path, error) from error
    return path


def not_fetched(source: str, path: Path, error: Exception) -> CheckpointError:
    """The error for weights that could not be downloaded: where they are, and where to place them."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return CheckpointError(
        f"The published weights {source} could not be downloaded: {reason}.",
        expected=f"network access, or the file `{path}`",
        fix="Download the file on another machine, and place it there under this name.",
    )
