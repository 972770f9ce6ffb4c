"""The file of a listening Unix domain socket: its mode, whom it may replace, and its end."""

import errno
import fcntl
import os
import secrets
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from sidecar.settings.addresses import STAGED_NAME, UnixAddress

# For the owner and the group: a proxy in front runs as another user of the same group.
MODE = 0o660


def publish(stack: ExitStack, address: UnixAddress, listen: Callable[[str], object]) -> None:
    """Have `listen` listen on a new path in the same folder, and move its socket to `address`.

    So clients never see a socket with another mode or without a listener, and a server that
    removes the path it has bound (gRPC core) never removes the socket of another process. The
    socket of a process that is gone is replaced. `stack` removes the file at the end, if it is
    still the same. Raises OSError if something else is at `address`.
    """
    path = Path(address.host)
    try:
        with _locked(path.parent):
            _check(path)
            file = _move(path, listen)
    except OSError as error:
        raise OSError(f"cannot listen on {address}: {error.strerror or error}") from None
    stack.callback(_remove, path, file)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other sidecars out: two of them must not both replace the same dead socket."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _check(path: Path) -> None:
    """Raise OSError unless nothing is at `path`, or a socket on which nobody listens."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "there is a file that is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)  # a listener may have no place for one more
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _move(path: Path, listen: Callable[[str], object]) -> tuple[int, int, int]:
    """Return the identity of the file at `path`, which is the socket that `listen` has made."""
    staged = path.with_name(f".{secrets.token_hex(STAGED_NAME // 2)}")
    try:
        listen(str(staged))
        staged.chmod(MODE)
        staged.rename(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    return _identity(path)


def _identity(path: Path) -> tuple[int, int, int]:
    # With the time, because the number of a file that is gone may be used again.
    status = path.lstat()
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _remove(path: Path, file: tuple[int, int, int]) -> None:
    with suppress(OSError):  # it is gone, or its folder is
        if _identity(path) == file:
            path.unlink()
