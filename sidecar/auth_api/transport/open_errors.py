"""Errors of a connection that does not open, and the fault of each."""

import errno
import ssl

from sidecar.auth_api.local_errnos import LOCAL_ERRNOS
from sidecar.auth_api.transport.errors import TransportError
from sidecar.auth_api.transport.happy_eyeballs import NoConnectionError


def fault_of(error: NoConnectionError, *, is_tls: bool) -> TransportError:
    """Return the fault of a connection that did not open.

    If every attempt has a local cause the fault is local; else the first other cause counts.
    """
    faults = [_cause_of(cause, is_tls=is_tls) for cause in error.errors]
    return next((fault for fault in faults if fault.name != "local"), faults[0])


def _cause_of(cause: BaseException, *, is_tls: bool) -> TransportError:
    if isinstance(cause, ssl.SSLError):
        words = getattr(cause, "verify_message", None) or getattr(cause, "reason", None)
        return TransportError("tls", words)
    if not isinstance(cause, OSError):
        raise cause
    number = cause.errno
    name = None if number is None else errno.errorcode.get(number)
    if number in LOCAL_ERRNOS:
        return TransportError("local", name)
    if isinstance(cause, ConnectionRefusedError):
        return TransportError("refused")
    # The connection was open: the handshake ended it.
    is_handshake = is_tls and isinstance(cause, ConnectionError)
    return TransportError("tls" if is_handshake else "unreachable", name)
