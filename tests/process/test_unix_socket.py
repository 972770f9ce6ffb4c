"""Tests of the file of a Unix socket: its mode, whom it replaces, and its end."""

import fcntl
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from sidecar.process.sockets import Bound, listen_on_all
from sidecar.process.unix_socket import publish
from sidecar.settings.addresses import UnixAddress


@contextmanager
def listening(path: Path) -> Iterator[Bound]:
    """Listen on `path` as the sidecar does."""
    with ExitStack() as stack:
        yield listen_on_all(stack, UnixAddress(str(path)))


def answers(path: Path) -> bool:
    """Whether something listens on `path`."""
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        return client.connect_ex(str(path)) == 0


def leave_dead(path: Path) -> None:
    """Leave the socket of a server that is gone."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777])
def test_the_mode(tmp_path: Path, mask: int) -> None:
    """The owner and the group can connect and nobody else, whatever the umask is."""
    path, before = tmp_path / "r.sock", os.umask(mask)
    try:
        with listening(path) as bound:
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert str(bound.endpoint) == f"unix:{path}"
            assert answers(path)
            assert list(tmp_path.iterdir()) == [path]
    finally:
        os.umask(before)
    assert not list(tmp_path.iterdir())


def test_a_dead_socket_is_replaced(tmp_path: Path) -> None:
    """The socket of a process that is gone is replaced, and removed at the end."""
    path = tmp_path / "r.sock"
    leave_dead(path)
    assert not answers(path)
    with listening(path):
        assert answers(path)
    assert not path.exists()


@pytest.mark.parametrize("is_full", [False, True], ids=["listening", "without a place"])
def test_a_living_socket_is_taken(tmp_path: Path, is_full: bool) -> None:
    """A socket on which somebody listens is refused and stays, even if its backlog is full."""
    path = tmp_path / "r.sock"
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(str(path))
        server.listen(0 if is_full else 8)
        client = stack.enter_context(socket.socket(socket.AF_UNIX))
        client.connect(str(path))
        assert answers(path) is not is_full
        with pytest.raises(
            OSError, match=f"^cannot listen on unix:{path}: Address already in use$"
        ):
            listen_on_all(stack, UnixAddress(str(path)))
        server.accept()[0].close()
        assert answers(path)
        assert list(tmp_path.iterdir()) == [path]


def datagram(path: Path) -> None:
    """Make a datagram socket that lives as long as the process."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(str(path))
    server.detach()  # nobody closes it


def link_to_a_socket(path: Path) -> None:
    """Make a symbolic link to a dead socket."""
    leave_dead(path.with_name("target"))
    path.symlink_to("target")


OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "file": (Path.touch, "there is a file that is not a socket"),
    "folder": (Path.mkdir, "there is a file that is not a socket"),
    "pipe": (os.mkfifo, "there is a file that is not a socket"),
    "link": (link_to_a_socket, "there is a file that is not a socket"),
    "datagrams": (datagram, "Protocol wrong type for socket"),
}


@pytest.mark.parametrize(("make", "text"), OTHERS.values(), ids=OTHERS)
def test_another_file_is_never_replaced(
    tmp_path: Path, make: Callable[[Path], object], text: str
) -> None:
    """Whatever is no socket of a stream stays, and the text says what is in the way."""
    path = tmp_path / "r.sock"
    make(path)
    before = path.lstat()
    with pytest.raises(OSError, match=f"^cannot listen on unix:{path}: {text}$"), listening(path):
        pass
    assert path.lstat() == before


def test_a_missing_folder(tmp_path: Path) -> None:
    """A folder that does not exist is reported with the address."""
    path = tmp_path / "none" / "r.sock"
    text = f"^cannot listen on unix:{path}: No such file or directory$"
    with pytest.raises(OSError, match=text), listening(path):
        pass


def test_a_failed_listener_leaves_nothing(tmp_path: Path) -> None:
    """If the server cannot listen, neither a new path nor its temporary one is left."""

    def fail(path: str) -> None:
        leave_dead(Path(path))
        raise OSError("canary")

    with ExitStack() as stack, pytest.raises(OSError, match=r"r\.sock: canary$"):
        publish(stack, UnixAddress(str(tmp_path / "r.sock")), fail)
    assert not list(tmp_path.iterdir())


def test_a_successor_keeps_its_socket(tmp_path: Path) -> None:
    """A process that ends does not remove the socket of the one that has replaced it."""
    path = tmp_path / "r.sock"
    with ExitStack() as successor:
        with listening(path) as bound:
            bound.sockets[0].close()  # as in the drain
            listen_on_all(successor, UnixAddress(str(path)))
        assert answers(path)
    assert not path.exists()


@pytest.mark.parametrize("remove", [True, False], ids=["file", "folder"])
def test_a_file_that_is_gone(tmp_path: Path, remove: bool) -> None:
    """A socket that somebody has removed, or moved with its folder, is no failure at the end."""
    folder = tmp_path / "run"
    folder.mkdir()
    with listening(folder / "r.sock"):
        if remove:
            (folder / "r.sock").unlink()
        else:
            folder.rename(tmp_path / "elsewhere")


def test_one_of_many_replaces_a_dead_socket(tmp_path: Path) -> None:
    """Of many that start at once over a dead socket, one gets it and all others are refused."""
    path, count = tmp_path / "r.sock", 8
    leave_dead(path)
    ready, refused = threading.Barrier(count), []

    with ExitStack() as stack:

        def start() -> None:
            ready.wait()
            try:
                listen_on_all(stack, UnixAddress(str(path)))
            except OSError as error:
                refused.append(str(error))

        threads = [threading.Thread(target=start) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert refused == [f"cannot listen on unix:{path}: Address already in use"] * (count - 1)
        assert answers(path)
        assert list(tmp_path.iterdir()) == [path]


def test_the_folder_is_locked(tmp_path: Path) -> None:
    """Between the look at the path and the new socket no other sidecar does the same."""
    locked: list[bool] = []

    def listen(path: str) -> None:
        leave_dead(Path(path))
        descriptor = os.open(tmp_path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            locked.append(True)
        finally:
            os.close(descriptor)

    with ExitStack() as stack:
        publish(stack, UnixAddress(str(tmp_path / "r.sock")), listen)
    assert locked == [True]
