"""Reloads a node: has settings and queries compiled anew beside it, starts workers that serve them, and hands over.

One step follows another, and none is waited for, as the master looks after its workers meanwhile::

    IDLE -> COMPILING   asked for
    COMPILING -> IDLE   faults were found: nothing has been changed
    COMPILING -> STARTING
    STARTING -> LEAVING every new worker is ready: the old ones are told to end
    LEAVING -> IDLE     no old one accepts connections any more: who connects from now on is served by the new ones
    STARTING -> IDLE    some new worker is not ready in time: the new ones are told to end, the old ones serve on

What serves is never the first to meet what a user wrote: that is the compiling process, which only reads.
"""

import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from gateway.events import NodeNotShared, Observer, Reloaded, ReloadRefused, ReloadWarned
from gateway.faults import Fault
from gateway.node.reloads import Reload, note
from gateway.server.artefact import ArtefactUnusable, Compiled, read, write

COMPILED_WITHIN = 120.0
"""Seconds for the check, which asks servers."""
SERVED = "--served"
"""Has the compiling process read no files, but take what is served with the members that were found."""
READY_WITHIN = 30.0
"""Seconds in which a new generation must be ready."""
LEFT_WITHIN = 2.0
"""Seconds after which an old worker that has not stopped to accept, as it was stopped itself, is not waited for."""


class Recompiled(msgspec.Struct, frozen=True):
    """What the compiling process prints as JSON. Without a fault, the current artefact is the new one."""

    faults: tuple[Fault, ...] = ()
    warnings: tuple[str, ...] = ()


class Compilation:
    """A process that compiles what is to be served, checks it, and writes the artefact."""

    def __init__(self, command: Sequence[str], directory: Path) -> None:
        """Start it; raises OSError."""
        if not command:
            raise FileNotFoundError("this node was started by something else than gateway serve")
        self._output = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed by result or kill
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._output)  # noqa: S603 - ours

    def result(self) -> Recompiled | None:
        """Return what it found; None while it runs."""
        # NOTE: the master may have collected the exit status of this child as of any other, so only what the process
        # has printed tells how it ended.
        if self._process.poll() is None:
            return None
        self._output.seek(0)
        text = self._output.read()
        self._output.close()
        try:
            return msgspec.json.decode(text, type=Recompiled)
        except msgspec.MsgspecError:
            return Recompiled((Fault("reload", 0, "the check of settings and queries broke off; see the log"),))

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._output.close()


class Generations(Protocol):
    """The master's workers, in generations of which each serves what was compiled together."""

    @property
    def compiled(self) -> Compiled:
        """What is served."""

    def start_next(self, compiled: Compiled) -> None:
        """Start workers that serve this, beside those that serve now; raises ArtefactUnusable if they cannot be."""

    def is_next_ready(self) -> bool:
        """Whether all of them are ready."""

    def hand_over(self) -> None:
        """Let them serve alone: the others are told to end."""

    def is_handed_over(self) -> bool:
        """Whether none of the others accepts connections any more."""

    def give_up_next(self, compiled: Compiled) -> None:
        """Tell them to end; ``compiled`` is served as before."""


class Reloading:
    """One reload at a time; what is asked for during one is done after it."""

    def __init__(
        self,
        *,
        generations: Generations,
        command: Sequence[str],
        directory: Path,
        observe: Observer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``command``: starts the compiling process; ``directory``: the node's runtime directory."""
        self._generations = generations
        self._command = command
        self._directory = directory
        self._observe = observe
        self._clock = clock
        self._is_wanted = False
        self._is_whole = False
        """Whether files are to be read, too."""
        self._began = 0.0
        self._compilation: Compilation | None = None
        self._before: Compiled | None = None
        """What was served before, while a new generation starts."""
        self._is_leaving = False
        """Whether the old generation was told to end, and that is not known to be in effect."""
        self._due = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether ``step`` should be called soon."""
        is_starting = self._compilation is not None or self._before is not None
        return self._is_wanted or is_starting or self._is_leaving

    @property
    def is_starting(self) -> bool:
        """Whether a new generation was started that has not been handed over to."""
        return self._before is not None

    def ask(self, *, whole: bool = True) -> None:
        """Reload as soon as that can be done. Not ``whole``: what is served, with the members that were found."""
        self._is_wanted = True
        self._is_whole = self._is_whole or whole

    def step(self) -> None:
        """Do what can be done now."""
        if self._compilation is not None:
            self._step_compiling(self._compilation)
        elif self._before is not None:
            self._step_starting()
        elif self._is_leaving:
            if self._generations.is_handed_over() or self._clock() >= self._due:
                self._is_leaving = False
                self._end(())
        elif self._is_wanted:
            self._begin()

    def refuse(self, message: str) -> None:
        """Give the new generation up."""
        if self._before is not None:
            before, self._before = self._before, None
            self._generations.give_up_next(before)
            self._restore(before)
            self._end((Fault("reload", 0, message),))

    def close(self) -> None:
        """The node ends: so does the compiling process."""
        if self._compilation is not None:
            self._compilation.kill()

    def _begin(self) -> None:
        options = () if self._is_whole else (SERVED,)
        self._is_wanted = self._is_whole = False
        self._began = self._clock()
        self._note(Reload(began=self._began))
        try:
            self._compilation = Compilation([*self._command, *options] if self._command else (), self._directory)
        except OSError as error:
            self._end((Fault("reload", 0, f"the check cannot be started: {error}"),))
            return
        self._due = self._began + COMPILED_WITHIN

    def _step_compiling(self, compilation: Compilation) -> None:
        found = compilation.result()
        if found is None:
            if self._clock() < self._due:
                return
            compilation.kill()
            found = Recompiled((Fault("reload", 0, f"the check took longer than {COMPILED_WITHIN:g} s"),))
        self._compilation = None
        if found.faults:
            self._end(found.faults)
            return
        before = self._generations.compiled
        try:
            self._generations.start_next(read(self._directory))
        except ArtefactUnusable as error:
            self._restore(before)
            self._end((Fault("reload", 0, str(error)),))
            return
        for warning in found.warnings:
            self._observe(ReloadWarned(warning=warning))
        self._before = before
        self._due = self._clock() + READY_WITHIN

    def _step_starting(self) -> None:
        if self._generations.is_next_ready():
            self._before = None
            self._generations.hand_over()
            self._is_leaving = True
            self._due = self._clock() + LEFT_WITHIN
        elif self._clock() >= self._due:
            self.refuse(f"the new workers were not ready within {READY_WITHIN:g} s; the log says why")

    def _restore(self, before: Compiled) -> None:
        try:
            write(self._directory, before)
        except OSError as error:
            self._not_noted(error)

    def _end(self, faults: tuple[Fault, ...]) -> None:
        catalogue = self._generations.compiled.catalogue
        self._note(
            Reload(
                began=self._began,
                ended=self._clock(),
                faults=faults,
                hash=catalogue.hash,
                queries=len(catalogue.queries),
            )
        )
        if faults:
            self._observe(ReloadRefused(faults=tuple(map(str, faults))))
        else:
            self._observe(Reloaded(hash=catalogue.hash, queries=len(catalogue.queries)))

    def _note(self, reload: Reload) -> None:
        note(self._directory, reload, on_failure=self._not_noted)

    def _not_noted(self, error: OSError) -> None:
        self._observe(NodeNotShared(what="the end of a reload cannot be written down", detail=str(error)))
