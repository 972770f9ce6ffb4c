"""The error numbers of causes on this machine: they say nothing about the auth-api or DNS."""

import errno

LOCAL_ERRNOS = frozenset(
    {
        errno.EADDRNOTAVAIL,
        errno.EADDRINUSE,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EPERM,
        errno.EACCES,
    }
)
