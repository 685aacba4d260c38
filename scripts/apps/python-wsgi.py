"""What gunicorn serves for python.sh: /body a file's content, /pid the worker that answers, POST / what it is sent."""

import os
import time

with open(os.environ["WSGI_BODY"], "rb") as file:
    BODY = file.read()


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if environ["REQUEST_METHOD"] == "POST":
        answer = environ["wsgi.input"].read()
    elif path == "/body":
        answer = BODY
    elif path == "/slow":
        time.sleep(2)
        answer = BODY
    else:
        answer = b"%d\n" % os.getpid()
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(answer)))])
    return [answer]
