"""Published weights by name: from a file, from torch's download cache, or from the hub, always checked by their hash."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch

from flowbench.errors import BadValue

#: torchvision's weights: name -> (file, the start of its SHA-256, which is part of its name). Source:
#: torchvision.models.optical_flow.Raft_Small_Weights and Raft_Large_Weights.
PUBLISHED = {
    "raft-small": {
        "C_T_V1": ("raft_small_C_T_V1-ad48884c.pth", "ad48884c"),
        "C_T_V2": ("raft_small_C_T_V2-01064c6d.pth", "01064c6d"),
    },
    "raft-large": {
        "C_T_V1": ("raft_large_C_T_V1-22a6c225.pth", "22a6c225"),
        "C_T_V2": ("raft_large_C_T_V2-1bb1363a.pth", "1bb1363a"),
        "C_T_SKHT_V1": ("raft_large_C_T_SKHT_V1-0b8c9e55.pth", "0b8c9e55"),
        "C_T_SKHT_V2": ("raft_large_C_T_SKHT_V2-ff5fadd5.pth", "ff5fadd5"),
        "C_T_SKHT_K_V1": ("raft_large_C_T_SKHT_K_V1-4a6a5039.pth", "4a6a5039"),
        "C_T_SKHT_K_V2": ("raft_large_C_T_SKHT_K_V2-b5c70766.pth", "b5c70766"),
    },
}
_HUB_URL = "https://download.pytorch.org/models/"


def published_state(estimator: str, name: str) -> dict[str, torch.Tensor]:
    """Return published weights, from torch's cache or downloaded into it.

    Raises:
        BadValue: If they cannot be downloaded, or the file is not the published one.
    """
    file, digest = PUBLISHED[estimator][name]
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(_HUB_URL + file, str(path), hash_prefix=digest, progress=False)
        except (OSError, RuntimeError) as error:
            raise BadValue(
                f"The weights {name} of {estimator} cannot be downloaded ({_first_line(error)}). Where there is a network, "
                f"fetch {_HUB_URL}{file}; then give its path as the checkpoint, or put it into {path.parent}."
            ) from error
    return state_of_file(path, digest)


def state_of_file(path: Path, digest: str = "") -> dict[str, torch.Tensor]:
    """Return the tensors of a `.pth` or `.safetensors` file; nothing in it is executed.

    Args:
        path: The file.
        digest: What its SHA-256 starts with; torchvision's files carry it in their name, which is used if this is empty.

    Raises:
        BadValue: If it is missing, not such a file, or not the file that its name says.
    """
    if not path.is_file():
        raise BadValue(f"There are no weights at {path}: no such file.")
    content = path.read_bytes()
    digest = digest or _digest_in_name(path)
    found = hashlib.sha256(content).hexdigest()
    if not found.startswith(digest):
        raise BadValue(
            f"{path} is damaged, or another file: its SHA-256 starts with {found[:8]}, expected {digest}. Download it again."
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load

            state = load(content)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Whatever torch and safetensors raise for a file that is not theirs.
        raise BadValue(f"{path} holds no weights that can be read: {_first_line(error)}.") from error
    # Some training scripts keep the weights beside the optimiser.
    state = state.get("state_dict", state.get("model", state))
    return {name.removeprefix("module."): value for name, value in state.items()}


def state_sha256(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of weights, by which what was estimated with them is told from what others estimate."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(name.encode() + b"\0" + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _digest_in_name(path: Path) -> str:
    """Return `01064c6d` of `raft_small_C_T_V2-01064c6d.pth`, as torch's hub names files; else nothing."""
    _, _, end = path.stem.rpartition("-")
    return end if len(end) == 8 and set(end) <= set("0123456789abcdef") and path.suffix == ".pth" else ""


def _first_line(error: BaseException) -> str:
    text = os.linesep.join(map(str, error.args)) or type(error).__name__
    return text.strip().splitlines()[0].rstrip(".") if text.strip() else type(error).__name__
