"""What gunicorn's ASGI workers serve for python.sh, as python-wsgi.py does: only on uvloop, or not at all."""

import asyncio
import os

import uvloop

with open(os.environ["WSGI_BODY"], "rb") as file:
    BODY = file.read()


async def application(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
    if scope["method"] == "POST":
        answer, more = b"", True
        while more:
            message = await receive()
            answer += message.get("body", b"")
            more = message.get("more_body", False)
    elif scope["path"] == "/body":
        answer = BODY
    elif scope["path"] == "/slow":
        await asyncio.sleep(2)
        answer = BODY
    else:
        answer = b"%d\n" % os.getpid()
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
