"""One module a peer: how it is told to do the work."""

from dataclasses import dataclass, field


@dataclass
class Peer:
    """One process that stands between load and service."""

    # What tables call it, unique.
    name: str
    # Which of `auth`, `limit`, `scan request`, `scan response`, `scan stream` it is configured to do. Checks prove it.
    work: set
    command: list
    # What it listens on, by protocol: `plain`, `h2`, `tls`.
    ports: dict
    # Where its log goes.
    log: str
    # The program itself, for its size.
    binary: str = ""
    # Rows that it cannot do, and why.
    cannot: dict = field(default_factory=dict)
    # Another port for event streams, where they need other options.
    stream_port: int = 0
    # A file that grows under load, emptied before each measurement.
    grows: str = ""
    process: object = None

    def port(self, protocol):
        return self.ports.get(protocol)
