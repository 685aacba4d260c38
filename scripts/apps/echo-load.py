#!/usr/bin/python3
"""A load for servers that send back what they get, until the client ends its side, and then close.

    echo-load.py --port N [--connections 100] [--messages 40] [--half 20] [--vanish 30] [--idle 20] [--patience 15]

Connections of four kinds, all at once: those that send a message when the last one has come back; `half`, that say
everything, end their side, and only then read; `vanish`, that go away in the middle, by a close or by a reset; `idle`,
that say nothing until the others are done, and then one word. Every byte is compared. It stands on poll(2), not on
epoll, and knows nothing of the library.

Prints `connections=N vanished=N messages=N bytes=N`; messages and bytes are of those that stayed. Status 0: all came
back, and all were closed.
"""

import argparse
import random
import select
import socket
import struct
import sys
import time

SIZES = [1, 10, 100, 1000, 5000, 30000]


class Failure(Exception):
    pass


class Client:
    """One connection: what is still to be said, and what is still to come back."""

    def __init__(self, options, kind, number):
        chance = random.Random(f"{kind} {number}")
        self.kind, self.number = kind, number
        count = {"asks": options.messages, "half": options.messages // 4 + 1, "vanish": 2, "idle": 1}[kind]
        self.messages = [chance.randbytes(chance.choice(SIZES)) for _ in range(count)]
        self.left = list(reversed(self.messages))
        self.out = self.due = b""
        self.silent = kind == "idle"
        self.bytes = 0
        self.said_all = False
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.connecting = True
        self.socket.connect_ex(("127.0.0.1", options.port))

    def next(self):
        """What is said next, when there is nothing under way."""
        if self.silent:
            return
        if self.kind == "half" and self.left:
            self.out = self.due = b"".join(self.messages)
            self.left = []
        elif self.left and not self.out and not self.due:
            self.out = self.due = self.left.pop()

    def mask(self):
        # What would not fit into the buffers on the way has to be read meanwhile.
        deaf = self.kind == "half" and not self.said_all and len(self.due) < 200000
        mask = 0 if deaf else select.POLLIN
        return mask | (select.POLLOUT if self.out or self.connecting else 0)

    def step(self, found):
        """True when the connection has come to its end."""
        if self.connecting:
            if error := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise Failure(f"connect: error {error}")
            if not found & (select.POLLOUT | select.POLLIN):
                return False
            self.connecting = False
            if self.kind == "vanish":
                return self.vanish()
            self.next()
        try:
            if self.out:
                self.out = self.out[self.socket.send(self.out):]
        except BlockingIOError:
            pass
        try:
            while self.mask() & select.POLLIN:
                data = self.socket.recv(65536)
                if not data:
                    if self.said_all and not self.due:
                        self.socket.close()
                        return True
                    raise Failure(f"closed, and {len(self.due)} bytes are still to come")
                if not self.due.startswith(data):
                    raise Failure(f"{len(data)} bytes that were not said, at {self.bytes}")
                self.due = self.due[len(data):]
                self.bytes += len(data)
                self.next()
        except BlockingIOError:
            pass
        nothing_to_say = not self.silent and not self.out and not self.left
        if nothing_to_say and not self.said_all and (self.kind == "half" or not self.due):
            self.said_all = True
            self.socket.shutdown(socket.SHUT_WR)
        return False

    def vanish(self):
        """Before it says anything, in the middle of what is to come back, by a reset."""
        try:
            if self.number % 3:
                self.socket.send(b"half a word" * 3000)
            if self.number % 3 == 2:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        finally:
            self.socket.close()
        return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    for name, default in (("connections", 100), ("messages", 40), ("half", 20), ("vanish", 30), ("idle", 20),
                          ("patience", 15)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()

    kinds = {"asks": options.connections, "half": options.half, "vanish": options.vanish, "idle": options.idle}
    clients = [Client(options, kind, number) for kind, count in kinds.items() for number in range(count)]
    poll = select.poll()
    by_number = {}
    for client in clients:
        by_number[client.socket.fileno()] = client
        poll.register(client.socket, client.mask())
    moved = time.monotonic()
    failures = 0
    while by_number:
        for number, found in poll.poll(1000):
            client = by_number[number]
            moved = time.monotonic()
            try:
                ended = client.step(found)
            except (OSError, Failure) as error:
                failures += 1
                if failures <= 10:
                    print(f"{client.kind} {client.number}: {error}", file=sys.stderr)
                client.socket.close()
                ended = True
            if ended:
                poll.unregister(number)
                del by_number[number]
            else:
                poll.modify(number, client.mask())
        waiting = list(by_number.values())
        if waiting and all(client.silent and not client.connecting for client in waiting):
            for client in waiting:
                client.silent = False
                client.next()
                poll.modify(client.socket, client.mask())
        if time.monotonic() - moved > options.patience:
            for client in waiting[:10]:
                print(f"{client.kind} {client.number}: {len(client.out)} bytes not taken, {len(client.due)} not come "
                      f"back, connecting {client.connecting}, side ended {client.said_all}", file=sys.stderr)
            print(f"{len(waiting)} connections wait in vain", file=sys.stderr)
            return 1
    stayed = [client for client in clients if client.kind != "vanish"]
    messages = sum(len(client.messages) for client in stayed)
    print(f"connections={len(stayed)} vanished={options.vanish} messages={messages} "
          f"bytes={sum(client.bytes for client in stayed)}")
    if failures:
        print(f"{failures} connections failed", file=sys.stderr)
    return failures > 0


sys.exit(main())
