"""asyncio as server and client in one process; by its own loop (on epoll), or by uvloop (libuv).

    python-asyncio.py asyncio|uvloop DIRECTORY    prints one line `RESULT ...` where all went well

DIRECTORY has cert.pem and key.pem, or TLS is left out.
"""

import asyncio
import hashlib
import os
import random
import signal
import socket
import ssl
import sys
import threading
import time

CONNECTIONS = 100
MESSAGES = 30
KIND, DIRECTORY = sys.argv[1:]


def sockets():
    count = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
        except FileNotFoundError:
            pass  # the directory itself, closed by now
    return count


async def until(what, condition):
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        await asyncio.sleep(0.005)


class Server:
    """Answers each message, a length and so many bytes, with its sum; at the client's end with how many there were."""

    def __init__(self):
        self.opened = self.ended = self.vanished = 0

    async def serve(self, reader, writer):
        self.opened += 1
        count = 0
        try:
            while header := await reader.read(1):
                header += await reader.readexactly(3)
                body = await reader.readexactly(int.from_bytes(header, "big"))
                writer.write(hashlib.sha256(body).digest())
                await writer.drain()
                count += 1
            writer.write(b"%d messages\n" % count)
            await writer.drain()
            self.ended += 1
        except (ConnectionError, asyncio.IncompleteReadError):
            self.vanished += 1
        finally:
            writer.close()


async def converse(number, messages, opened):
    """Half of the clients say everything and listen afterwards; all close their side and wait for the server's word."""
    chance = random.Random(number)
    reader, writer = await opened
    bodies = [chance.randbytes(chance.choice([0, 1, 100, 4000, 40000])) for _ in range(messages)]

    async def answers():
        for body in bodies:
            assert await reader.readexactly(32) == hashlib.sha256(body).digest()

    listening = asyncio.create_task(answers()) if number % 2 else None
    for body in bodies:
        writer.write(len(body).to_bytes(4, "big") + body)
        await writer.drain()
        if not listening:
            assert await reader.readexactly(32) == hashlib.sha256(body).digest()
    if listening:
        await listening
    if writer.can_write_eof():
        writer.write_eof()
        assert await reader.read() == b"%d messages\n" % messages
    writer.close()
    return messages


async def vanish(number, opened):
    reader, writer = await opened
    writer.write((1000).to_bytes(4, "big") + b"half a message")
    if number % 3 == 0:
        writer.transport.abort()
    elif number % 3 == 1:
        # A reset, as the other side finds data unread or lingering is off.
        linger = b"\1\0\0\0\0\0\0\0"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()
    else:
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()


async def streams():
    """TCP, then a UNIX socket: every message answered, clients that vanish noticed."""
    total = 0
    tcp, unix = Server(), Server()
    tcp_server = await asyncio.start_server(tcp.serve, "127.0.0.1", 0, backlog=512)
    port = tcp_server.sockets[0].getsockname()[1]
    path = os.path.join(DIRECTORY, "socket")
    unix_server = await asyncio.start_unix_server(unix.serve, path, backlog=512)
    async with tcp_server, unix_server:
        talks = [converse(n, MESSAGES, asyncio.open_connection("127.0.0.1", port)) for n in range(CONNECTIONS)]
        talks += [converse(n, MESSAGES, asyncio.open_unix_connection(path)) for n in range(CONNECTIONS // 2)]
        gone = [vanish(n, asyncio.open_connection("127.0.0.1", port)) for n in range(60)]
        total = sum((await asyncio.gather(*talks, *gone))[: len(talks)])
        await until("the ends of all", lambda: (tcp.ended, unix.ended) == (CONNECTIONS, CONNECTIONS // 2))
        await until("vanished clients", lambda: tcp.vanished == 60)
    os.path.exists(path) and os.unlink(path)
    return f"{total} messages over {CONNECTIONS} TCP and {CONNECTIONS // 2} UNIX connections, 60 clients vanished"


async def tls():
    files = [os.path.join(DIRECTORY, name) for name in ("cert.pem", "key.pem")]
    if not os.path.exists(files[0]):
        return "no TLS, as openssl is not installed"
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.load_cert_chain(*files)
    ours = ssl.create_default_context(cafile=files[0])
    body = random.Random(0).randbytes(1000000)

    async def serve(reader, writer):
        data = await reader.readexactly(len(body))
        writer.write(data[::-1])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=theirs)
    port = server.sockets[0].getsockname()[1]

    async def ask():
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=ours, server_hostname="localhost")
        writer.write(body)
        assert await reader.read() == body[::-1]
        writer.close()

    async with server:
        await asyncio.gather(*(ask() for _ in range(8)))
    return "8 TLS connections with 1 MB each way"


async def subprocesses():
    async def cat(data):
        child = await asyncio.create_subprocess_exec(
            "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        output, _ = await child.communicate(data)
        assert (output, child.returncode) == (data, 0)

    async def code(number):
        child = await asyncio.create_subprocess_shell(
            f"echo {number}; exit {number}", stdout=asyncio.subprocess.PIPE)
        output, _ = await child.communicate()
        assert (output, child.returncode) == (b"%d\n" % number, number)

    async def killed():
        child = await asyncio.create_subprocess_exec("sleep", "100")
        child.terminate()
        assert await child.wait() == -signal.SIGTERM

    jobs = [cat(os.urandom(1000000)) for _ in range(4)] + [code(n) for n in range(25)] + [killed() for _ in range(5)]
    await asyncio.gather(*jobs)
    return f"{len(jobs)} child processes"


async def signals():
    """Each signal, sent by ourselves or by a child, gets to its handler while the loop sleeps or works."""
    loop = asyncio.get_running_loop()
    got = []
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        loop.add_signal_handler(number, got.append, number)
    for turn in range(200):
        number = (signal.SIGUSR1, signal.SIGUSR2)[turn % 2]
        if turn % 20 == 0:
            child = await asyncio.create_subprocess_exec("kill", f"-{int(number)}", str(os.getpid()))
            assert await child.wait() == 0
        else:
            os.kill(os.getpid(), number)
        await until("a signal", lambda: len(got) == turn + 1)
        assert got[-1] == number
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        assert loop.remove_signal_handler(number)
    return f"{len(got)} signals"


async def threads():
    """The loop is woken by other threads, and asks some itself."""
    loop = asyncio.get_running_loop()
    got = []

    def call(number):
        for turn in range(1000):
            loop.call_soon_threadsafe(got.append, (number, turn))
            if turn % 100 == 0:
                time.sleep(0.001)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in callers:
        thread.start()
    await until("calls by threads", lambda: len(got) == 4000)
    for thread in callers:
        await loop.run_in_executor(None, thread.join)
    for number in range(4):
        assert [turn for caller, turn in got if caller == number] == list(range(1000))
    return f"{len(got)} calls by other threads"


async def timers():
    start = time.monotonic()
    fired = []

    async def one(due):
        await asyncio.sleep(due)
        # The loop's clock is as fine as its ticks; uvloop's is a whole millisecond.
        assert time.monotonic() - start >= due - 0.002
        fired.append(due)

    await asyncio.gather(*(one(n % 100 / 400) for n in range(500)))
    return f"{len(fired)} timers"


async def main():
    parts = await asyncio.gather(streams(), tls(), subprocesses(), signals(), timers())
    # Not beside signals: both ring by the same socket pair, and one that finds it full is lost, natively too.
    parts.append(await threads())
    await asyncio.get_running_loop().shutdown_default_executor()
    return "; ".join(parts)


before = sockets()
if KIND == "uvloop":
    import uvloop

    uvloop.install()
result = asyncio.run(main())
try:
    os.waitpid(-1, os.WNOHANG)
    sys.exit("a child is left")
except ChildProcessError:
    pass
assert sockets() == before, "sockets are left"
print("RESULT", result)
