"""AI2-THOR's FIFO protocol, the player's side of it.

Two named pipes; a field is a one-byte type, a four-byte length and a body, and a message ends with an empty field of type 255.
The client sends JSON, the player MessagePack and raw images (`ai2thor/fifo_server.py` of the client, 5.0.0).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import struct
import time
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

#: How often a waiting player looks whether its client is still there.
_PATIENCE_S = 0.5
#: A client waits in `open` before its player has even been loaded; one that does not is gone.
_CONNECT_S = 10.0
#: A picture with depth fits: without it, both processes would wake up for every 64 KiB.
_PIPE_BYTES = 1 << 20


class Field(IntEnum):
    """Types of fields, as the client numbers them."""

    METADATA = 1
    ACTION = 2
    RGB = 4
    DEPTH = 5
    IDS = 9
    THIRD_PARTY_RGB = 10
    METADATA_PATCH = 11
    THIRD_PARTY_DEPTH = 12
    THIRD_PARTY_IDS = 14
    END_OF_MESSAGE = 255


_HEADER = struct.Struct("!BI")
_END = _HEADER.pack(Field.END_OF_MESSAGE, 0)


class ClientGone(Exception):
    """The client is no more, and nobody needs this player."""


class Wire:
    """The two pipes of one client.

    Non-obvious behaviours:
        - Pipes are opened without blocking, and every wait ends when the process that started the player is gone: an
          `open` of a pipe whose other end never comes would last for ever, and leave an orphan.
    """

    def __init__(self, to_client: str, from_client: str) -> None:
        """Connect to a client that is waiting.

        Args:
            to_client: Path of the pipe that the client reads (`server.pipe`).
            from_client: Path of the pipe that the client writes (`client.pipe`).

        Raises:
            ClientGone: If it ends before it connects.
        """
        self._parent = os.getppid()
        self._inbox = os.open(from_client, os.O_RDONLY | os.O_NONBLOCK)
        self._outbox = self._open_for_writing(to_client)
        os.set_blocking(self._outbox, True)
        # Not everywhere allowed, and only faster.
        for end in (self._inbox, self._outbox):
            try:
                fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            except OSError:
                break
        self._poll = select.poll()
        self._poll.register(self._inbox, select.POLLIN)
        self._started = False

    @classmethod
    def of_environment(cls) -> Wire:
        """Connect to the client whose pipes the environment names."""
        return cls(os.environ["AI2THOR_FIFO_SERVER_PIPE_PATH"], os.environ["AI2THOR_FIFO_CLIENT_PIPE_PATH"])

    def send(self, fields: Iterable[tuple[Field, bytes]]) -> None:
        """Send one message.

        Raises:
            ClientGone: If the client has closed the pipe.
        """
        parts = [part for kind, body in fields for part in (_HEADER.pack(kind, len(body)), body)]
        message = memoryview(b"".join([*parts, _END]))
        try:
            while message:
                message = message[os.write(self._outbox, message) :]
        except BrokenPipeError:
            raise ClientGone from None

    def receive(self) -> dict[str, Any]:
        """Wait for the next action.

        Raises:
            ClientGone: If the client ends first.
        """
        action: dict[str, Any] | None = None
        while True:
            kind, length = _HEADER.unpack(self._read(_HEADER.size))
            body = self._read(length)
            if kind == Field.END_OF_MESSAGE:
                if action is not None:
                    return action
            elif kind == Field.ACTION:
                action = json.loads(body)
            else:
                raise ValueError(f"the client sent a field of type {kind}; a player takes actions only")

    def _read(self, count: int) -> bytes:
        parts = []
        while count:
            if not self._poll.poll(1000 * _PATIENCE_S):
                self._check_parent()
                continue
            part = self._read_some(count)
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _read_some(self, count: int) -> bytes:
        try:
            part = os.read(self._inbox, count)
        except BlockingIOError:
            return b""
        if part:
            self._started = True
        elif self._started:
            raise ClientGone
        else:
            # No writer has come yet; poll does not wait for one on every kernel.
            self._check_parent()
            time.sleep(0.001)
        return part

    def _open_for_writing(self, path: str) -> int:
        deadline_s = time.monotonic() + _CONNECT_S
        while time.monotonic() < deadline_s:
            try:
                return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                # ENXIO: nobody reads yet; ENOENT: the client has tidied up.
                if error.errno == errno.ENOENT:
                    raise ClientGone from None
                if error.errno != errno.ENXIO:
                    raise
            self._check_parent()
            time.sleep(0.002)
        raise ClientGone

    def _check_parent(self) -> None:
        if os.getppid() != self._parent:
            raise ClientGone
