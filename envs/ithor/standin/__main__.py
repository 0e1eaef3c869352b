"""`python -m flowbench.envs.ithor.standin`: what the client starts in place of Unity's executable."""

from __future__ import annotations

import argparse
import os
import sys

from flowbench.envs.ithor.standin.player import Player
from flowbench.envs.ithor.standin.wire import ClientGone, Wire
from flowbench.errors import FlowBenchError
from flowbench.suite import load_object

#: Rooms by the word that `--rooms` takes.
ROOMS = {
    "procedural": "flowbench.envs.ithor.standin.procedural:make_room",
    "recorded": "flowbench.envs.ithor.standin.recorded:make_room",
}


def main(arguments: list[str] | None = None) -> int:
    """Serve one client until it is gone; Unity's own options that mean nothing here are passed over."""
    parser = argparse.ArgumentParser(prog="python -m flowbench.envs.ithor.standin", allow_abbrev=False)
    parser.add_argument("--rooms", choices=ROOMS, default="procedural")
    parser.add_argument("-screen-width", dest="width", type=int, default=300)
    parser.add_argument("-screen-height", dest="height", type=int, default=300)
    options, _ = parser.parse_known_args(arguments)
    # Mesa then draws in this thread: for pictures this small, waking another one takes as long as drawing.
    os.environ["LP_NUM_THREADS"] = "0"
    try:
        player = Player(load_object(ROOMS[options.rooms]), options.width, options.height)
    except FlowBenchError as error:
        # The client's error quotes the last line.
        print(error, file=sys.stderr)
        return error.exit_code
    try:
        wire, message = Wire.of_environment(), None
        while True:
            wire.send(player.reply(message))
            message = wire.receive()
            player.do(message)
    except (ClientGone, KeyboardInterrupt):
        return 0
    finally:
        player.close()


if __name__ == "__main__":
    sys.exit(main())
