"""HTTP/1.1 connections that do not wait for ever.

uvicorn bounds neither how long a head takes to arrive nor how long a client takes to read; and above its own limit of
connections it refuses everybody, whoever asks for the server's health among them.
"""

import asyncio
import collections
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from tfpt.server import json_values


def patient_for(seconds: float, *, most: int) -> type[H11Protocol]:
    """Returns a protocol that hangs up on who takes too long.

    Args:
        seconds: longest time for a request's head to arrive, and for an answer to be read.
        most: connections at a time; one more, and the one that was silent for longest must go.
    """
    patients: collections.OrderedDict[H11Protocol, None] = collections.OrderedDict()

    class Patient(H11Protocol):
        _head: asyncio.TimerHandle | None = None
        _unread: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=0)  # what is not read at once is told to pause_writing
            self._head = self.loop.call_later(seconds, transport.abort)
            patients[self] = None
            if len(patients) > most:
                longest = next(
                    one for one in patients if one is self or one.cycle is None or one.cycle.response_complete
                )
                del patients[longest]
                longest.transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            patients.pop(self, None)
            self._stop_head()
            self._stop_unread()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self in patients:
                patients.move_to_end(self)
            before = self.cycle
            if self._head is None and (before is None or before.response_complete):
                self._head = self.loop.call_later(seconds, self.transport.abort)
            super().data_received(data)
            if self.cycle is not before:
                self._stop_head()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._unread = self._unread or self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._stop_unread()

        def send_400_response(self, msg: str) -> None:
            if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # an answer is on its way already
                self.transport.close()
                return
            body = json_values.dump({"error": msg})
            headers = [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
                ("Connection", "close"),
            ]
            response = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

        def _stop_head(self) -> None:
            if self._head is not None:
                self._head.cancel()
                self._head = None

        def _stop_unread(self) -> None:
            if self._unread is not None:
                self._unread.cancel()
                self._unread = None

    return Patient
