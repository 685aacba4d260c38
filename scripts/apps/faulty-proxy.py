#!/usr/bin/python3
"""A TCP proxy that makes faults on order, at a byte that the order names.

    faulty-proxy.py --port N --to N [--random SEED --reach BYTES]

A client orders by a first line, which is not passed on, or by an HTTP header, which is, and so reaches a proxy behind a
server, too; each request may have one, `none` among the kinds:

    fault KIND DIRECTION AFTER AMOUNT
    X-Fault: KIND DIRECTION AFTER AMOUNT

When AFTER bytes, counted from the order, have passed in that DIRECTION (up: from the client, down: from the server):

    reset     both connections are reset (SO_LINGER 0)
    cut       both are closed
    half      that direction is ended (shutdown), and what else comes that way is thrown away; the other one goes on
    stall     nothing more is read from that side until nothing more comes, as it has no more, or as all buffers are
              full; then it goes on
    die       the same, and then both are reset
    delay     nothing goes either way for AMOUNT ms
    dribble   the next AMOUNT bytes go one by one

With --random each connection without an order has one of these, after up to so many bytes of a direction, and another one
when it goes on: from SIGUSR1 on, until the next one. The first of all is a reset soon after the SIGUSR1, so that one is
made however little comes. Windows and segments are small, so that the buffers on the way are soon full. It stands on
poll(2), not on epoll, and knows nothing of the library.

Ends by SIGTERM, and prints how often it made each: `connections=N reset=N ... full=N`, the last for stalls that ended
with its own buffer full.
"""

import argparse
import array
import fcntl
import random
import re
import select
import signal
import socket
import struct
import sys
import termios
import time

KINDS = ["reset", "cut", "half", "stall", "die", "delay", "dribble"]
ORDER = re.compile(rb"^(?:fault|X-Fault:) (\w+) (up|down) (\d+) (\d+)\r?\n", re.MULTILINE)
BUFFER = 65536
# The first fault by chance comes after so many bytes from the server.
SOON = 1000
# For so long nothing may come until a stalled side is taken for full, or for done.
STILL = 0.03
TICK_MS = 2


def queued(sock):
    """How many bytes wait to be read."""
    count = array.array("i", [0])
    fcntl.ioctl(sock, termios.FIONREAD, count)
    return count[0]


class Flow:
    """One direction of a connection."""

    def __init__(self, source, sink):
        self.source, self.sink = source, sink
        self.held = b""
        self.passed = 0
        self.ended = self.told = self.deaf = self.stalled = False
        self.dribble = 0
        self.seen = (0, 0.0)


class Pair:
    """A client, the server, and what is to happen between them."""

    def __init__(self, proxy, client, server):
        self.proxy = proxy
        self.flows = {"up": Flow(client, server), "down": Flow(server, client)}
        self.masks = {client: 0, server: 0}
        self.order = None
        self.first = True
        self.until = 0.0
        self.dead = False

    def ordered(self, kind, direction, after, amount):
        """Takes the place of one that did not come about: the request was shorter."""
        self.order = (kind, direction, after, amount) if kind in KINDS else None
        for flow in self.flows.values():
            flow.passed = 0

    def look_for_order(self, data):
        """Orders stand in the beginning of what a client sends at once."""
        found = ORDER.search(data[:4096])
        if found:
            self.ordered(found[1].decode(), found[2].decode(), int(found[3]), int(found[4]))
            if self.first and found.start() == 0:
                data = data[found.end():]
            if self.order and self.order[1] == "down" and self.order[2] == 0:
                self.fire()
        self.first = False
        return data

    def busy(self):
        """It has to be looked at when nothing stirs, too."""
        return self.until or any(flow.stalled or flow.dribble and flow.held for flow in self.flows.values())

    def fire(self):
        kind, direction, _, amount = self.order
        flow = self.flows[direction]
        self.order = None
        self.proxy.counts[kind] += 1
        if kind == "reset":
            self.end(reset=True)
        elif kind == "cut":
            self.end()
        elif kind == "half":
            flow.held, flow.deaf = b"", True
            self.tell(flow)
        elif kind in ("stall", "die"):
            flow.stalled = kind
            flow.seen = (-1, time.monotonic())
        elif kind == "delay":
            self.until = time.monotonic() + amount / 1000
        elif kind == "dribble":
            flow.dribble = amount
        if kind in ("stall", "delay", "dribble"):
            self.proxy.maybe(self)

    def tell(self, flow):
        flow.told = True
        flow.sink.shutdown(socket.SHUT_WR)

    def pull(self, flow):
        data = flow.source.recv(BUFFER)
        if not data:
            flow.ended = True
        elif flow.deaf:
            data = b""
        elif flow is self.flows["up"]:
            data = self.look_for_order(data)
        if not self.dead:
            flow.held += data
            self.push(flow)

    def push(self, flow):
        """Passes on what may be passed on now."""
        if self.until or flow.stalled:
            return
        if flow.held:
            size = 1 if flow.dribble else len(flow.held)
            mine = self.order and self.flows[self.order[1]] is flow
            if mine:
                size = min(size, self.order[2] - flow.passed)
            sent = flow.sink.send(flow.held[:size]) if size else 0
            flow.held = flow.held[sent:]
            flow.passed += sent
            flow.dribble -= 1 if flow.dribble and sent else 0
            if mine and self.order and flow.passed >= self.order[2]:
                self.fire()
        if not self.dead and flow.ended and not flow.held and not flow.told:
            self.tell(flow)
        if all(flow.ended and flow.told for flow in self.flows.values()):
            self.end()

    def tick(self, now):
        if self.until and now >= self.until:
            self.until = 0.0
            self.each(self.push)
        for flow in self.flows.values():
            if self.dead:
                return
            if flow.stalled:
                count = queued(flow.source)
                if count != flow.seen[0]:
                    flow.seen = (count, now)
                elif now - flow.seen[1] > STILL:
                    self.proxy.counts["full"] += count >= BUFFER // 2
                    kind, flow.stalled = flow.stalled, False
                    if kind == "die":
                        self.end(reset=True)
                    self.each(self.push)
            elif flow.dribble and flow.held:
                self.each(self.push)

    def each(self, step):
        for flow in self.flows.values():
            if not self.dead:
                self.guarded(step, flow)

    def guarded(self, step, flow):
        try:
            step(flow)
        except BlockingIOError:
            pass
        except OSError:
            # One side is gone. The other one learns it the same way.
            self.end(reset=True)

    def stirs(self, sock, found):
        for flow in self.flows.values():
            if not self.dead and flow.source is sock and self.masks[sock] & select.POLLIN and found & ~select.POLLOUT:
                self.guarded(self.pull, flow)
            if not self.dead and flow.sink is sock and flow.held and found & ~select.POLLIN:
                self.guarded(self.push, flow)

    def rewatch(self):
        """A socket of which nothing is wanted is left out, as poll would tell its end again and again."""
        if self.dead:
            return
        for sock, old in self.masks.items():
            mask = 0
            for flow in self.flows.values():
                if self.until or flow.stalled:
                    continue
                if flow.source is sock and not flow.ended and not flow.held:
                    mask |= select.POLLIN
                if flow.sink is sock and flow.held and not flow.dribble:
                    mask |= select.POLLOUT
            if mask == old:
                continue
            self.masks[sock] = mask
            if mask:
                self.proxy.poll.register(sock, mask)
            else:
                self.proxy.poll.unregister(sock)
        if self.busy():
            self.proxy.waiting.add(self)

    def end(self, reset=False):
        self.dead = True
        for sock, mask in self.masks.items():
            if mask:
                self.proxy.poll.unregister(sock)
            del self.proxy.pairs[sock.fileno()]
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()


class Proxy:
    def __init__(self, options):
        self.options = options
        self.chance = random.Random(options.random)
        self.randomly = self.told = self.begun = False
        self.counts = dict.fromkeys(["connections", *KINDS, "full"], 0)
        self.pairs = {}
        self.waiting = set()
        self.poll = select.poll()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.narrow(self.listener)
        self.listener.bind(("127.0.0.1", options.port))
        self.listener.listen(511)
        self.listener.setblocking(False)
        self.poll.register(self.listener, select.POLLIN)

    @staticmethod
    def narrow(sock):
        """Before it is connected: what was said to the other side of windows and segments holds."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1448)

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except BlockingIOError:
                return
            server = socket.socket()
            self.narrow(server)
            try:
                server.connect(("127.0.0.1", self.options.to))
            except OSError:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
                continue
            pair = Pair(self, client, server)
            for sock in (client, server):
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.pairs[sock.fileno()] = (pair, sock)
            self.counts["connections"] += 1
            self.maybe(pair)
            pair.rewatch()

    def maybe(self, pair):
        """A fault by chance, more often early than late. Upwards goes little but the greeting."""
        if self.randomly and not self.begun:
            self.begun = True
            pair.ordered("reset", "down", SOON, 0)
        elif self.randomly:
            direction = self.chance.choice(["up", "down", "down", "down"])
            reach = 1000 if direction == "up" else self.options.reach
            pair.ordered(self.chance.choice(KINDS), direction, int(reach * self.chance.random() ** 3) + 1, 20)

    def run(self):
        while True:
            stirred = set()
            if self.told:
                self.told, self.randomly = False, not self.randomly
                for pair, _ in self.pairs.values():
                    pair.order = None
                    self.maybe(pair)
            for number, found in self.poll.poll(TICK_MS if self.waiting else 100):
                if number == self.listener.fileno():
                    self.accept()
                elif number in self.pairs:
                    pair, sock = self.pairs[number]
                    pair.stirs(sock, found)
                    stirred.add(pair)
            if self.waiting:
                now = time.monotonic()
                for pair in self.waiting:
                    if not pair.dead:
                        pair.tick(now)
                stirred |= self.waiting
                self.waiting = set()
            for pair in stirred:
                pair.rewatch()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--to", type=int, required=True)
    parser.add_argument("--random", type=int)
    parser.add_argument("--reach", type=int, default=1 << 20)
    proxy = Proxy(parser.parse_args())

    def stop(*_):
        print(" ".join(f"{kind}={count}" for kind, count in proxy.counts.items()))
        sys.exit()

    def told(*_):
        # Not here, in the middle of anything.
        proxy.told = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGUSR1, told)
    proxy.run()


main()
