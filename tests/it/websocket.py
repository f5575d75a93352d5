"""Both ends of a WebSocket, by the library `websockets`, with the proxy between them.

`serve` runs a service that behaves as the path says and prints how each connection ended. `client URL KEY` runs every
case against the proxy and prints, as JSON, what its user would see.
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

MESSAGES = 10_000


async def behave(ws):
    path = ws.request.path
    try:
        if path.endswith("/fragments"):
            pieces = [piece async for piece in ws.recv_streaming()]
            await ws.send([str(len(pieces)), *pieces])
        elif path.endswith("/close"):
            await ws.close(4001, "service bye")
        elif path.endswith("/abort"):
            await ws.recv()
            ws.transport.abort()
        elif path.endswith("/ping"):
            await (await ws.ping(b"from the service"))
            await ws.send("ponged")
        async for message in ws:
            await ws.send(message)
    except ConnectionClosed:
        pass
    finally:
        print(f"closed {path} {ws.close_code} {ws.close_reason}", flush=True)


def choose(_, offered):
    return "chat" if "chat" in offered else None


async def run_service():
    async with serve(behave, "127.0.0.1", 0, max_size=None, select_subprotocol=choose) as server:
        port = server.sockets[0].getsockname()[1]
        print(f"listening on http://127.0.0.1:{port}", flush=True)
        await server.serve_forever()


async def closed(ws):
    await ws.wait_closed()
    return [ws.close_code, ws.close_reason]


async def in_order(ws):
    """Sends while it receives, and counts what came back as it went."""

    async def send():
        for number in range(MESSAGES):
            await ws.send(f"message {number}" if number % 2 else f"message {number}".encode())

    sender = asyncio.create_task(send())
    same = 0
    for number in range(MESSAGES):
        message = await ws.recv()
        text = message if number % 2 else message.decode()
        same += text == f"message {number}"
    await sender
    return same


async def texts_in_order(ws):
    async def send():
        for number in range(MESSAGES):
            await ws.send(json.dumps({"note": f"message {number}"}))

    sender = asyncio.create_task(send())
    same = 0
    for number in range(MESSAGES):
        same += json.loads(await ws.recv()) == {"note": f"message {number}"}
    await sender
    return same


async def run_client(base, key):
    def to(path, **options):
        headers = {"Authorization": f"Bearer {key}"}
        return connect(base + path, additional_headers=headers, max_size=None, **options)

    seen = {}
    for name, options in [("deflated", {}), ("plain", {"compression": None})]:
        async with to("/open/echo", **options) as ws:
            seen[f"{name} extensions"] = [extension.name for extension in ws.protocol.extensions]
            seen[f"{name} in order"] = await in_order(ws)
            large = "é😀" * 100_000
            await ws.send(large)
            seen[f"{name} large"] = await ws.recv() == large
            seen[f"{name} ping"] = await (await ws.ping(b"x")) >= 0
        seen[f"{name} closed"] = await closed(ws)

    async with to("/open/fragments", compression=None) as ws:
        await ws.send(["one ", "two ", "three"])
        seen["fragments"] = [piece async for piece in ws.recv_streaming()]
    async with to("/open/ping") as ws:
        seen["pinged"] = await ws.recv()
        await ws.close(4000, "client bye")
    async with to("/open/close") as ws:
        seen["service closed"] = await closed(ws)
    async with to("/open/abort") as ws:
        await ws.send("go")
        seen["service aborted"] = await closed(ws)
    async with to("/open/left") as ws:
        await ws.send("go")
        await ws.recv()
        ws.transport.abort()
    async with to("/open/echo", subprotocols=["other", "chat"]) as ws:
        seen["subprotocol"] = ws.subprotocol

    async with to("/scanned/echo") as ws:
        seen["scanned extensions"] = [extension.name for extension in ws.protocol.extensions]
        seen["scanned in order"] = await texts_in_order(ws)
        await ws.send(["a ", "fragmented ", "message"])
        seen["scanned fragments"] = await ws.recv()
        await ws.send('{"note": "javascript:alert(1)"}')
        seen["refused"] = json.loads(await ws.recv())["code"]
        seen["refused closed"] = await closed(ws)
    print(json.dumps(seen))


if sys.argv[1] == "serve":
    asyncio.run(run_service())
else:
    asyncio.run(run_client(*sys.argv[2:]))
