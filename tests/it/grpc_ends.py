"""Both ends of calls of gRPC: `grpc_ends.py serve` and `grpc_ends.py call ADDRESS KEY`.

Messages are bytes and methods are generic, so that nothing has to be generated.
"""

import sys
import threading
from concurrent import futures

import grpc

SERVICE = "test.Echo"
LIMIT = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]


def caller(context):
    """Whom Keyward says the caller is, and that the key went no further."""
    metadata = dict(context.invocation_metadata())
    assert "authorization" not in metadata and "x-api-key" not in metadata, metadata
    return metadata.get("x-org-code", "-")


def wait_for_end(context):
    """The service is told when its caller has gone."""
    ended = threading.Event()
    context.add_callback(ended.set)
    print("ended" if ended.wait(50) else "waited in vain", flush=True)


def unary(request, context):
    if request == b"fail":
        context.set_trailing_metadata((("x-sum", "1"), ("x-other", "2")))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no: 50 % \u00e9")
    if request == b"sleep":
        wait_for_end(context)
        return b"late"
    context.send_initial_metadata((("x-caller", caller(context)),))
    context.set_trailing_metadata((("x-sum", str(len(request))), ("x-org-code", "evil")))
    return request


def server_stream(request, context):
    for n in range(int(request.rstrip(b"!"))):
        yield b"%d" % n
    if request.endswith(b"!"):
        wait_for_end(context)


def client_stream(requests, context):
    return b"%d" % sum(len(request) for request in requests)


def both(requests, context):
    for request in requests:
        yield request


def serve():
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Server": grpc.unary_stream_rpc_method_handler(server_stream),
        "Client": grpc.stream_unary_rpc_method_handler(client_stream),
        "Both": grpc.stream_stream_rpc_method_handler(both),
    }
    server = grpc.server(futures.ThreadPoolExecutor(8), options=LIMIT)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"listening on http://127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


def refused(call, code, text):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code and text in error.details(), error
        return error
    raise AssertionError(f"{code} was expected")


def call(address, key):
    with grpc.insecure_channel(address, options=LIMIT) as channel:
        own = (("authorization", f"Bearer {key}"), ("x-org-code", "evil"))

        def method(kind, name):
            return getattr(channel, kind)(f"/{SERVICE}/{name}")

        one = method("unary_unary", "Unary")
        answer, ended = one.with_call(b"hello", metadata=own, timeout=50)
        assert answer == b"hello"
        assert dict(ended.initial_metadata())["x-caller"] == "org_customer_abc"
        trailing = dict(ended.trailing_metadata())
        assert trailing == {"x-sum": "5"}, trailing

        large = bytes(range(256)) * (64 << 10)
        assert one(large, metadata=own, timeout=50) == large
        assert one(b"", metadata=own, timeout=50) == b""

        assert [int(n) for n in method("unary_stream", "Server")(b"1000", metadata=own)] == list(range(1000))
        pieces = [b"x" * n for n in range(200)]
        assert method("stream_unary", "Client")(iter(pieces), metadata=own, timeout=50) == b"19900"

        # One by one: each answer is awaited before the next request is sent.
        turns, taken = threading.Semaphore(1), []

        def talk():
            for n in range(100):
                turns.acquire()
                yield b"%d" % n

        for answer in method("stream_stream", "Both")(talk(), metadata=own, timeout=50):
            taken.append(int(answer))
            turns.release()
        assert taken == list(range(100))

        codes = grpc.StatusCode
        error = refused(lambda: one(b"fail", metadata=own, timeout=50), codes.FAILED_PRECONDITION, "no: 50 % \u00e9")
        # It has nothing but this end, which is a head then.
        assert dict(error.trailing_metadata())["x-sum"] == "1", error.trailing_metadata()
        refused(lambda: one(b"sleep", metadata=own, timeout=0.5), codes.DEADLINE_EXCEEDED, "")
        events = method("unary_stream", "Server")(b"3!", metadata=own, timeout=0.5)
        refused(lambda: list(events), codes.DEADLINE_EXCEEDED, "")

        refused(lambda: one(b"x", timeout=50), codes.UNAUTHENTICATED, "Missing API key")
        refused(lambda: one(b"x", metadata=(("x-api-key", "kw_live_no"),), timeout=50), codes.UNAUTHENTICATED, "key")
        no = method("unary_unary", "Nothing")
        refused(lambda: no(b"x", metadata=own, timeout=50), codes.UNIMPLEMENTED, "No such route")
        guarded = channel.unary_unary("/test.Guarded/Unary")
        refused(lambda: guarded(b"x", metadata=own, timeout=50), codes.PERMISSION_DENIED, "Insufficient scope")
        scanned = channel.unary_unary("/test.Scanned/Unary")
        refused(lambda: scanned(b"x", metadata=own, timeout=50), codes.INVALID_ARGUMENT, "cannot be inspected")
        limited = channel.unary_unary("/test.Limited/Unary")
        refused(lambda: limited(b"x", metadata=own, timeout=50), codes.UNIMPLEMENTED, "")
        refused(lambda: limited(b"x", metadata=own, timeout=50), codes.RESOURCE_EXHAUSTED, "rate limit")
    print("done", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        call(*sys.argv[2:])
