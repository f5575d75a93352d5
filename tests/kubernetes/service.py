"""The guarded service of the Pod tests: JSON, a slow stream of events, and a probe of its own, under real uvicorn."""

import argparse
import asyncio
import json
import signal

import uvicorn


async def body_of(receive):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def answer(send, status, kind, body):
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = await body_of(receive)
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    if scope["path"] == "/healthz":
        await answer(send, 200, b"application/json", b'{"status":"ok"}')
    elif scope["path"] == "/ai/generation":
        told = {"one": headers.get("x-generation-one"), "two": headers.get("x-generation-two")}
        await answer(send, 200, b"application/json", json.dumps(told).encode())
    elif scope["path"] == "/ai/stream":
        await send({
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")],
        })
        for number in range(20):
            event = f'data: {{"n":{number}}}\n\n'.encode()
            await send({"type": "http.response.body", "body": event, "more_body": True})
            await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
    else:
        told = {"org": headers.get("x-org-code"), "length": len(body)}
        await answer(send, 200, b"application/json", json.dumps(told).encode())


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--host", default="127.0.0.1")
    arguments.add_argument("--port", type=int, default=8000)
    arguments.add_argument("--stubborn", action="store_true", help="do not end when asked")
    options = arguments.parse_args()
    config = uvicorn.Config(app, host=options.host, port=options.port, log_level="warning")
    server = uvicorn.Server(config)
    if options.stubborn:
        server.handle_exit = lambda *_: None
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server.run()
