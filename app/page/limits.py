"""What one visitor may ask of the page, so that no upload and no slow client can use up the machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Sizes and times of the server.

    upload_bytes : of one recording.
    work_seconds : for decoding and recognising it; the worker is killed then.
    head_seconds : until a request's head is complete.
    upload_seconds : until a recording has arrived.
    flush_seconds : for a client to take the answer.
    uploads : recordings that are received or recognised at once; others wait, unread, in their sockets.
    waiting : requests that may wait so; the next ones are told to come back.
    connections : open at once.
    """

    upload_bytes: int = 64_000_000
    work_seconds: float = 60.0
    head_seconds: float = 10.0
    upload_seconds: float = 20.0
    flush_seconds: float = 15.0
    uploads: int = 16
    waiting: int = 100
    connections: int = 250

    @property
    def request_seconds(self) -> float:
        """For all of one request: waiting for its turn, upload, work of those before it and its own."""
        return self.upload_seconds + 3 * self.work_seconds
