"""Runs a player that must not outlive the process that started it: `python leash.py PARENT_PID COMMAND...`.

Unity's player waits for ever in a pipe whose other end was killed, holding a gigabyte and a GPU. This little process stays
between the two: it stops the player when the parent is gone, and the kernel stops the player when this process is. It needs
nothing but the standard library, so that it starts at once.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys

_LOOK_EVERY_S = 0.2
#: `prctl` option of Linux: the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Run the command until it ends or the parent does; end as it ended."""
    parent, command = int(arguments[0]), arguments[1:]
    tie = _tie if sys.platform.startswith("linux") else None
    player = subprocess.Popen(command, preexec_fn=tie)
    while True:
        try:
            code = player.wait(_LOOK_EVERY_S)
            break
        except subprocess.TimeoutExpired:
            if os.getppid() != parent:
                player.kill()
                code = player.wait()
                break
    if code < 0:
        # So that whoever waits for this process learns by which signal the player ended.
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -code)
    return code


def _tie() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
