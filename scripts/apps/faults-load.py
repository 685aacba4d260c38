#!/usr/bin/python3
"""Clients of nginx and of redis, through faulty-proxy.py, that know each byte that they may get.

    faults-load.py http  --port N --proxy N --files DIR --store DIR [--count 1000] [--idle 0]
    faults-load.py redis --port N --proxy N [--count 1000] [--idle 0]

For each kind of fault, up and down, and for none, --count connections; what each of them asks, and where its fault comes,
is decided by --seed. --parallel of them are open at a time. HTTP: files, uploads, both also through a server that is a
client of the proxy itself (`behind`). redis: pipelines, one command after the other, large values, a subscriber. --idle
connections go past the proxy, are silent until all others are done, and then must be answered.

Each connection ends in one of these ways, and which of them are right for its fault stands in `allowed`:

    whole     everything was answered, rightly
    short     closed, and what came was the beginning of what is right
    reset     the same, by a reset
    502       HTTP: the server said so
    wrong     other bytes than those that are right: never allowed
    late      not done after --patience seconds: never allowed

Afterwards what the uploads and SETs left behind is read without the proxy: whole or not there. --table writes how many
connections of each kind ended in which way. Status 0: all were allowed. It stands on poll(2), and knows nothing of the
library.
"""

import argparse
import collections
import os
import random
import re
import select
import socket
import sys
import time

KINDS = ["none"] + [f"{kind}-{direction}" for kind in ("reset", "cut", "half", "stall", "die", "delay", "dribble")
                    for direction in ("up", "down")]
# After these everything goes on.
HARMLESS = {"none", "idle", "stall", "delay", "dribble"}
BLOB = random.Random("blob").randbytes(1 << 20)


class Wrong(Exception):
    pass


def allowed(kind, way):
    name, _, direction = kind.partition("-")
    if name in HARMLESS:
        return {"whole"}
    if way.startswith("behind"):
        # The server saw its own server fail: before the head of the answer, or in the middle. On a connection that had been
        # kept it makes a second attempt; where an upload was there already, that answer may be shorter than the fault is far.
        return {"502", "short", "reset"} | ({"whole"} if way == "behind-put" else set())
    if name in ("reset", "die"):
        return {"reset"}
    # What is closed with bytes unread is reset by the kernel. An end that stands behind the last request may be seen
    # before its answer, or after it.
    return {"short", "reset"} | ({"whole"} if name == "half" and direction == "up" else set())


class Client:
    """A connection that takes steps: says `out`, and hears what `take` is content with."""

    def __init__(self, options, kind, number):
        self.options, self.kind, self.number = options, kind, number
        self.chance = random.Random(f"{options.seed} {kind} {number}")
        self.out = b""
        self.broken = False
        self.since = time.monotonic()
        self.result = None
        self.plan()

    def order(self, up, down):
        """A fault within so many bytes."""
        kind, _, direction = self.kind.partition("-")
        if kind in ("none", "idle"):
            return b""
        after = self.chance.randrange(up if direction == "up" else down)
        # Half of them near the beginning, where the heads are.
        if self.chance.random() < 0.5:
            after = min(after, self.chance.randrange(600))
        if kind == "half" and direction == "up" and self.chance.random() < 0.3:
            after = up
        amount = self.chance.randint(1, 64)
        return f"{kind} {direction} {after} {amount}".encode()

    def connect(self):
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", self.port()))

    def port(self):
        return self.options.port if self.kind == "idle" else self.options.proxy

    def mask(self):
        return select.POLLIN | (select.POLLOUT if self.out else 0)

    def stirs(self, found):
        if self.out and found & select.POLLOUT:
            try:
                self.out = self.out[self.socket.send(self.out):]
            except BlockingIOError:
                pass
            except OSError:
                # What was answered before is still to be read. The error is told once, and then it is an end.
                self.out, self.broken = b"", True
        if found & (select.POLLIN | select.POLLHUP | select.POLLERR):
            try:
                while self.result is None:
                    data = self.socket.recv(1 << 18)
                    if not data:
                        self.result = "reset" if self.broken else "short"
                    else:
                        self.take(data)
            except BlockingIOError:
                pass
            except OSError as error:
                self.result = "reset" if isinstance(error, (ConnectionResetError, BrokenPipeError)) else str(error)
            except Wrong as wrong:
                self.result = "wrong"
                print(f"{self.kind} {self.way} {self.number}: {wrong}", file=sys.stderr)


class HttpClient(Client):
    STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d) ")
    LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE)

    def plan(self):
        chance, options = self.chance, self.options
        self.way = chance.choices(["get", "put", "via-get", "via-put", "behind-get", "behind-put"], [35, 20, 10, 5, 20, 10])[0]
        place, _, method = self.way.rpartition("-")
        self.direct = place == "behind"
        prefix = {"": "", "via": "/via", "behind": "/behind"}[place]
        # A fault of a proxy behind the server is for one request, one before it for the whole connection.
        count = 1 if self.direct or method == "put" else chance.randint(1, 3)
        self.requests = []
        up = down = 0
        for _ in range(count):
            if method == "get":
                name = chance.choice(options.names)
                path, body, due = f"{prefix}/{chance.choice(['sendfile', 'written'])}/{name}", b"", options.bodies[name]
            else:
                start, size = chance.randrange(500000), chance.choice([1000, 70000, 300000])
                name = f"{self.kind}.{self.number}"
                body, due = BLOB[start:start + size], b""
                path = f"{prefix}/store/{name}"
                options.stored[name] = (self, body)
            text = (f"{method.upper()} {path}?id={self.kind}/{self.way} HTTP/1.1\r\nHost: a\r\n"
                    f"Content-Length: {len(body)}\r\n").encode()
            self.requests.append((text, body, due))
            up += len(text) + 2 + len(body)
            down += len(due) + 150
        order = self.order(up, down)
        self.preamble = b"" if self.direct or not order else b"fault " + order + b"\n"
        # Connections behind the server are kept, and so is an order that did not come about.
        self.header = b"X-Fault: " + (order or b"none up 0 0") + b"\r\n" if self.direct else b""
        self.ask()

    def port(self):
        return self.options.port if self.direct else super().port()

    def ask(self):
        text, body, self.due = self.requests.pop(0)
        self.out = self.preamble + text + self.header + b"\r\n" + body
        self.preamble = b""
        self.head, self.have = b"", None

    def take(self, data):
        if self.have is None:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data = self.head[:end + 2], self.head[end + 4:]
            status, length = self.STATUS.match(head), self.LENGTH.search(head)
            if not status:
                raise Wrong(f"head {head[:200]}")
            # What is there already, as the answer to the first attempt was lost: 204, which has no length.
            status, length = status[1].decode(), int(length[1]) if length else 0
            if status not in ("200", "201", "204"):
                self.result = status
                return
            if length != len(self.due):
                raise Wrong(f"length {length}, expected {len(self.due)}")
            self.have = 0
        if self.due[self.have:self.have + len(data)] != data:
            raise Wrong(f"{len(data)} bytes of the body at {self.have}")
        self.have += len(data)
        if self.have == len(self.due):
            if self.requests:
                self.ask()
            else:
                self.result = "whole"


def bulk(text):
    return b"$%d\r\n%s\r\n" % (len(text), text)


def command(*words):
    return b"*%d\r\n" % len(words) + b"".join(bulk(word) for word in words)


def message(number):
    return bulk(b"%010d" % number + BLOB[number % 1000:number % 1000 + 2000])


class RedisClient(Client):
    MESSAGES = 60

    def plan(self):
        chance, options = self.chance, self.options
        self.way = chance.choices(["pipeline", "talk", "large", "subscriber"], [40, 20, 15, 25])[0]
        self.steps = []
        if self.way == "subscriber":
            self.steps.append((command(b"SUBSCRIBE", b"news"), b"*3\r\n" + bulk(b"subscribe") + bulk(b"news") + b":1\r\n"))
        elif self.way == "large":
            # All that write this key write the same.
            name = chance.randrange(4)
            key, value = b"large:%d" % name, BLOB[name:name + 500000]
            options.keys[key] = (None, value)
            # What the server has to say must be more than the kernel takes from it.
            gets = 10 if self.kind in ("stall-down", "die-down") else 1
            self.steps.append((command(b"SET", key, value), b"+OK\r\n"))
            self.steps.append((command(b"GET", key) * gets, bulk(value) * gets))
        else:
            for i in range(chance.randint(5, 20)):
                key = f"{self.kind}:{self.number}:{i}".encode()
                start = chance.randrange(100000)
                value = BLOB[start:start + chance.choice([1, 20, 300, 5000])]
                options.keys[key] = (self, value)
                self.steps.append((command(b"SET", key, value), b"+OK\r\n"))
                self.steps.append((command(b"GET", key), bulk(value)))
            if self.way == "pipeline":
                self.steps = [tuple(map(b"".join, zip(*self.steps)))]
        up = sum(len(out) for out, _ in self.steps)
        down = sum(len(due) for _, due in self.steps)
        if self.way == "subscriber":
            down += (self.MESSAGES - 1) * len(message(0))
        order = self.order(up, down)
        self.next()
        if order:
            self.out = b"fault " + order + b"\n" + self.out

    def next(self):
        self.out, self.due = self.steps.pop(0)
        self.have = 0

    def take(self, data):
        while data and self.result is None:
            if self.hears:
                self.hear(data)
                return
            part = data[:len(self.due) - self.have]
            if self.due[self.have:self.have + len(part)] != part:
                raise Wrong(f"at {self.have} of {len(self.due)}: {part[:80]}")
            self.have += len(part)
            data = data[len(part):]
            if self.have == len(self.due):
                if self.steps:
                    self.next()
                elif self.way == "subscriber":
                    self.hears = True
                else:
                    self.result = "whole"
        if data:
            raise Wrong(f"more than is due: {data[:80]}")

    HEAD = b"*3\r\n" + bulk(b"message") + bulk(b"news")
    # Where the number stands, behind the length.
    NUMBER = len(HEAD) + len(b"$2010\r\n")
    hears = False
    held = b""
    heard = 0
    expected = None

    def hear(self, data):
        """The first message may have any number; the others follow one after the other."""
        self.held += data
        while self.held and self.result is None:
            if self.expected is None:
                digits = self.held[self.NUMBER:self.NUMBER + 10]
                if len(digits) < 10:
                    return
                if not digits.isdigit():
                    raise Wrong(f"no message: {self.held[:100]}")
                self.expected = int(digits)
            due = self.HEAD + message(self.expected)
            if not due.startswith(self.held[:len(due)]):
                raise Wrong(f"not message {self.expected}: {self.held[:100]}")
            if len(self.held) < len(due):
                return
            self.held = self.held[len(due):]
            self.expected += 1
            self.heard += 1
            if self.heard == self.MESSAGES:
                self.result = "whole"


class Publisher(Client):
    """Speaks while others listen: a few messages, their answers, a moment of rest."""

    kind, way = "publisher", "publisher"
    HEARD = re.compile(rb"(?::\d+\r\n){5}")

    def plan(self):
        self.said, self.held, self.rest_until = 0, b"", 0.0

    def port(self):
        return self.options.port

    def rest(self, now):
        if not self.out and not self.held and now >= self.rest_until:
            self.out = b"".join(b"*3\r\n" + bulk(b"PUBLISH") + bulk(b"news") + message(self.said + i) for i in range(5))
            self.said += 5
            self.rest_until = now + 60

    def take(self, data):
        self.held += data
        if self.HEARD.fullmatch(self.held):
            self.held, self.rest_until = b"", time.monotonic() + 0.005


def stored_files(options):
    """Each upload is there whole, or is not there; what was answered is there."""
    wrong = whole = 0
    for name, (client, body) in options.stored.items():
        path = os.path.join(options.store, name)
        if not os.path.exists(path):
            wrong += client.result == "whole"
            continue
        with open(path, "rb") as file:
            if file.read() == body:
                whole += 1
            else:
                wrong += 1
    print(f"uploads={len(options.stored)} stored whole={whole} wrong={wrong}")
    return wrong


def stored_keys(options):
    """The same for the keys, a hundred at a time."""
    sock = socket.create_connection(("127.0.0.1", options.port), timeout=options.patience)
    stream = sock.makefile("rb")
    wrong = whole = 0
    keys = list(options.keys)
    for at in range(0, len(keys), 100):
        some = keys[at:at + 100]
        sock.sendall(b"".join(command(b"GET", key) for key in some))
        for key in some:
            client, value = options.keys[key]
            size = int(stream.readline()[1:])
            found = stream.read(size + 2)[:-2] if size >= 0 else None
            if found is None:
                wrong += client is not None and client.result == "whole"
            elif found == value:
                whole += 1
            else:
                wrong += 1
    sock.close()
    print(f"keys={len(keys)} stored whole={whole} wrong={wrong}")
    return wrong


def run(options, make, plans, companion):
    """A plan is a kind and a number. Returns the clients, in the order in which they ended."""
    poll = select.poll()
    by_number = {}
    done = []

    def begin(client):
        client.connect()
        by_number[client.socket.fileno()] = client
        poll.register(client.socket, client.mask())

    if companion:
        begin(companion)
    silent = []
    for number in range(options.idle):
        client = make("idle", number)
        silent.append((client, client.out))
        client.out = b""
        begin(client)
    room = options.parallel + len(by_number)
    last_look = 0.0
    while plans or any(client is not companion for client in by_number.values()):
        while plans and len(by_number) < room:
            begin(make(*plans.pop()))
        if silent and not plans and len(by_number) <= len(silent) + bool(companion):
            for client, out in silent:
                client.out, client.since = out, time.monotonic()
                if client.result is None:
                    poll.modify(client.socket, client.mask())
            silent = []
        for number, found in poll.poll(5):
            client = by_number[number]
            before = client.mask()
            client.stirs(found)
            if client.result is not None:
                finish(client, number, poll, by_number, done)
            elif client.mask() != before:
                poll.modify(number, client.mask())
        now = time.monotonic()
        if companion:
            if companion.result is not None:
                print(f"the publisher ended: {companion.result}", file=sys.stderr)
                return done, False
            before = companion.mask()
            companion.rest(now)
            if companion.mask() != before:
                poll.modify(companion.socket, companion.mask())
        if now - last_look > 1:
            last_look = now
            for number, client in list(by_number.items()):
                if client is not companion and all(client is not other for other, _ in silent) and now - client.since > options.patience:
                    client.result = "late"
                    print(f"{client.kind} {client.way} {client.number}: late, {len(client.out)} bytes not sent", file=sys.stderr)
                    finish(client, number, poll, by_number, done)
    if companion:
        companion.socket.close()
    return done, True


def finish(client, number, poll, by_number, done):
    poll.unregister(number)
    del by_number[number]
    client.socket.close()
    if client.way == "publisher":
        return
    client.took = time.monotonic() - client.since
    done.append(client)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["http", "redis"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--proxy", type=int, required=True)
    parser.add_argument("--files")
    parser.add_argument("--store")
    parser.add_argument("--table")
    for name, default in (("count", 1000), ("parallel", 32), ("idle", 0), ("patience", 120), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    options.stored, options.keys = {}, {}
    companion = None
    if options.what == "http":
        options.names = sorted(os.listdir(options.files))
        options.bodies = {}
        for name in options.names:
            with open(os.path.join(options.files, name), "rb") as file:
                options.bodies[name] = file.read()
        make = HttpClient
    else:
        make = RedisClient
        companion = Publisher(options, "publisher", 0)

    plans = [(kind, number) for kind in KINDS for number in range(options.count)]
    random.Random(options.seed).shuffle(plans)
    done, fine = run(options, lambda kind, number: make(options, kind, number), plans, companion)

    table = collections.Counter((client.kind, client.way, client.result) for client in done)
    bad = 0
    for (kind, way, result), count in sorted(table.items()):
        if result not in allowed(kind, way):
            bad += count
            print(f"{count} of {kind} {way} ended {result}, allowed: {' '.join(sorted(allowed(kind, way)))}", file=sys.stderr)
    if options.table:
        with open(options.table, "w") as file:
            for (kind, way, result), count in sorted(table.items()):
                file.write(f"{kind} {way} {result} {count}\n")
    results = collections.Counter(client.result for client in done)
    print(f"connections={len(done)} " + " ".join(f"{result}={count}" for result, count in sorted(results.items()))
          + f" slowest={max(client.took for client in done):.1f} s")
    bad += stored_files(options) if options.what == "http" else stored_keys(options)
    return bad > 0 or not fine


sys.exit(main())
