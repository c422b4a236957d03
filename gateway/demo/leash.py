"""Become another program that cannot outlive the process that started it.

Runs as a script, ``python -I -S leash.py PARENT SIGNAL UID:GID PROGRAM ARGUMENT …``: takes on the user (``-`` keeps
this one), asks the kernel for SIGNAL at the parent's death (prctl(2), PR_SET_PDEATHSIG), and executes PROGRAM.

NOTE: The order matters: changing the user forgets the wish, executing a program keeps it. That is why neither
``subprocess(user=…)`` in front of this script nor ``preexec_fn`` with threads around would do; and the
interpreter, which that user perhaps cannot reach, is already running when the user changes.
NOTE: The "parent" is the thread that forked, not its process: see ``launching``.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, ending: int, account: str, command: list[str]) -> None:
    """Execute ``command``; returns only by exception."""
    if account != "-":
        uid, gid = map(int, account.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ending, 0, 0, 0)
    if os.getppid() != parent:  # died before the kernel knew the wish
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 -- becoming that program is what this script is for


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
