"""The error of an exchange that has no response."""


class TransportError(Exception):
    """A request has no response, because of the fault `name`.

    | name | fault |
    |---|---|
    | `dns` | the host name has no address now |
    | `local` | a cause on this machine: no port, descriptor, memory or thread, a late event loop |
    | `refused` | nothing listens at the port |
    | `unreachable` | a connection cannot be opened for another reason |
    | `connect_timeout` | a connection does not open in time |
    | `tls` | TLS fails |
    | `timeout` | the response does not come in time |
    | `closed` | the connection ends before the whole response |
    | `bad_http` | the response is not HTTP/1.1 (RFC 9112) |
    | `too_large` | the body or its framing is too large |
    | `content_encoding` | the body has a content coding, which no request accepts |

    `detail` says more for the log, such as the name of an errno. It quotes nothing that the
    server sent.
    """

    def __init__(self, name: str, detail: str | None = None) -> None:
        super().__init__(name if detail is None else f"{name}: {detail}")
        self.name = name
        self.detail = detail
