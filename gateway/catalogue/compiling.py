"""Compiles query files to one catalogue, or reports every fault in them."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.catalogue import suiting
from gateway.catalogue.annotations import Annotations, declared_names, read_annotations
from gateway.catalogue.files import read_files
from gateway.catalogue.headers import Header, read_header
from gateway.catalogue.naming import named
from gateway.catalogue.paging import sorted_by
from gateway.catalogue.placeholders import FaultAt, Marked, find_parameters
from gateway.catalogue.query import (
    TOOL_KEY,
    Access,
    Catalogue,
    Kind,
    Page,
    Parameter,
    Query,
    Sort,
    Statement,
    Verb,
)
from gateway.catalogue.scanning import LEFT_OPEN, Entry, scan
from gateway.catalogue.statements import Analysis, Unserved, analyse, is_type
from gateway.faults import Fault, FaultsFound
from gateway.settings import Settings

LONGEST_TOOL_NAME = 64
"""Characters of a tool's name: what the models that choose among tools take."""


def compile_project(settings: Settings) -> Catalogue:
    """Compile all query files that the settings name; raises FaultsFound as :func:`compile_catalogue` does."""
    return compile_catalogue(
        [Path(path) for path in settings.catalogue.paths],
        groups={name: group.access for name, group in settings.groups.items()},
        timeout=settings.server.timeout,
        skip=settings.catalogue.unservable == "skip",
        callers=Callers(
            are_known=settings.auth.is_on,
            roles=settings.auth.anonymous_roles if not settings.auth.is_on and settings.auth.allow_anonymous else None,
        ),
    )


class Callers(NamedTuple):
    """Who will call, as far as query files depend on it."""

    are_known: bool = False
    roles: Collection[str] | None = None
    """Where nobody is asked who they are: what everybody may call; None: everything."""


NOBODY_KNOWN = Callers()


def compile_catalogue(
    paths: Sequence[Path],
    *,
    groups: Mapping[str, str],
    timeout: float,
    skip: bool = False,
    callers: Callers = NOBODY_KNOWN,
) -> Catalogue:
    """Compile all query files below ``paths``.

    ``groups`` are the configured groups with their access, ``timeout`` is that of a query without one of its own,
    ``callers`` says who will call.
    With ``skip``, an entry with nothing wrong but that its kind of result or of statement cannot be served is left out.

    Raises FaultsFound with every fault of every file, in order of file and line. The same files give the same
    catalogue, and the same hash wherever they are.
    """
    files, faults = read_files(paths)
    entries: list[Entry] = []
    warnings: list[str] = []
    for file in files:
        scanned = scan(file)
        entries += scanned.entries
        faults += scanned.faults
        warnings += map(str, scanned.warnings)
    if not entries and not faults:
        where = ", ".join(map(str, paths)) or "[catalogue] paths"
        faults.append(Fault(where, 0, "there is no query here: no *.sql file with a `-- name:` header"))
    queries: dict[str, Query] = {}
    places: dict[str, Entry] = {}
    left_out: dict[str, str] = {}
    notes: list[str] = []
    for entry in entries:
        compiler = _Compiler(entry, groups, timeout, callers)
        query = compiler.run()
        name = compiler.name
        if name in places:
            first = places[name]
            compiler.report(f"query {name} is already defined in {first.where}:{first.line}")
        elif name:
            places[name] = entry
        if compiler.unserved and skip and not compiler.faults:
            left_out[name] = str(compiler.unserved[0])
            warnings += [f"{fault}; {name} is left out" for fault in compiler.unserved]
        else:
            faults += compiler.unserved
        faults += compiler.faults
        warnings += compiler.warnings
        notes += compiler.notes
        if query is not None:
            queries[query.name] = query
    faults += _tool_faults(queries.values())
    if faults:
        raise FaultsFound(sorted(set(faults)))
    ordered = dict(sorted(queries.items()))
    return Catalogue(ordered, _digest(ordered.values()), tuple(warnings), tuple(notes), left_out)


def _tool_faults(queries: Iterable[Query]) -> Iterator[Fault]:
    """What is wrong with the queries as tools of agents."""
    named: dict[str, Query] = {}
    for query in queries:
        if query.tool is None:
            continue
        name = query.tool_name
        first = named.setdefault(name, query)
        if first is not query:
            yield Fault(query.file, query.line, f"@tool: {query.name} and {first.name} are both {name} to an agent")
        if len(name) > LONGEST_TOOL_NAME:
            yield Fault(
                query.file, query.line, f"@tool: {name} has {len(name)} characters, agents take {LONGEST_TOOL_NAME}"
            )
        if query.access is Access.WRITE and any(each.name == TOOL_KEY for each in query.parameters):
            yield Fault(
                query.file,
                query.line,
                f"@tool: {TOOL_KEY} is an argument of every tool that writes: rename the parameter",
            )


def _digest(queries: Iterable[Query]) -> str:
    """Hash of all that changes how queries are served."""
    plain = [msgspec.structs.replace(query, file="", line=0) for query in queries]
    return hashlib.sha256(msgspec.json.encode(plain, order="deterministic")).hexdigest()


_NOTHING = Marked("", (), (), frozenset())


class _Compiler:
    """Makes one query of one entry, collecting what is wrong with it."""

    def __init__(self, entry: Entry, groups: Mapping[str, str], timeout: float, callers: Callers) -> None:
        self._entry = entry
        self._callers = callers
        self._timeout = timeout
        self._groups = groups
        self.name = ""
        self.faults: list[Fault] = []
        self.unserved: list[Fault] = []
        """What keeps it from being served although nothing is wrong with it."""
        self.warnings: list[str] = []
        self.notes: list[str] = []

    def report(self, message: str, line: int = 0) -> None:
        self.faults.append(self._fault(message, line))

    def _fault(self, message: str, line: int = 0) -> Fault:
        return Fault(self._entry.where, line or self._entry.line, message)

    def run(self) -> Query | None:
        """Give the query back if nothing is wrong with it."""
        entry = self._entry
        header, wrong = read_header(entry.header)
        for message in wrong:
            self.report(message)
        if header is not None:
            self.name = entry.prefix + header.name
            if header.unserved:
                self.unserved.append(self._fault(header.unserved))
        if entry.second and not self.unserved:
            self.unserved.append(self._fault("a second statement begins here; a query is one statement", entry.second))
        marked, analysis = self._statement(header) if not entry.broken else (_NOTHING, None)
        annotations, misread = read_annotations(entry.comments, marked.names)
        for line, message in misread:
            self.report(message, line)
        self._check_words(annotations)
        self._report_unsuited(suiting.of_text(header and header.kind, marked.names, annotations), annotations)
        parameters = self._parameters(marked, annotations) if not entry.broken and entry.body else ()
        query = None
        if header is not None and analysis is not None:
            access = self._access(analysis, annotations)
            self._check_kind(header.kind, analysis, annotations)
            self._report_unsuited(suiting.of_statement(header.kind, access, analysis, annotations), annotations)
            query = self._query(header, analysis, access, annotations, parameters)
        if entry.hidden and self.faults:
            self.report(LEFT_OPEN, entry.hidden)
        elif entry.hidden:
            self.warnings.append(f"{entry.where}:{entry.hidden}: a `-- name:` line inside a string is no header")
        return query if not self.faults and not self.unserved else None

    def _statement(self, header: Header | None) -> tuple[Marked, Analysis | None]:
        """The text with its parameters, named as far as it can be, and what its parser finds."""
        entry = self._entry
        if not entry.body:
            self.report("there is no statement below this header")
            return _NOTHING, None
        if header is not None and header.unserved:
            return _NOTHING, None
        marked, misplaced = find_parameters(entry.body, None if header is None else header.declared)
        self._report_all(misplaced)
        if misplaced:
            return marked, None
        try:
            analysis, wrong = analyse(marked)
        except Unserved as unserved:
            self.unserved.append(self._fault(str(unserved), entry.body_line))
            return marked, None
        self._report_all(wrong)
        if analysis is None:
            return marked, None
        if marked.doubled:
            self._warn("%% stands for itself here, as psycopg's doubling is not undone: write %")
        names = named(marked, analysis.hints, declared_names(entry.comments))
        if marked.unnamed:
            numbered = ", ".join(f"${index + 1} {names[index]}" for index in sorted(marked.unnamed))
            self.notes.append(f"{entry.where}:{entry.line}: {self.name}: {numbered}")
        return marked._replace(names=names), analysis

    def _report_all(self, faults: Iterable[FaultAt]) -> None:
        for fault in faults:
            self.report(fault.message, self._entry.line_of(fault.offset))

    def _report_unsuited(self, unsuited: suiting.Unsuited, annotations: Annotations) -> None:
        for word, message in unsuited:
            self.report(message, annotations.lines[word])

    def _warn(self, message: str) -> None:
        self.warnings.append(f"{self._entry.where}:{self._entry.line}: query {self.name}: {message}")

    def _query(
        self,
        header: Header,
        analysis: Analysis,
        access: Access,
        annotations: Annotations,
        parameters: tuple[Parameter, ...],
    ) -> Query:
        values = (
            {"timeout": self._timeout}
            | annotations.values
            | {"access": access, "group": self._group(access, annotations)}
            | {"has_timeout": "timeout" in annotations.lines}
        )
        statement = analysis.statement
        if "sorts" in values and statement.source is not None:
            page: Page | None = annotations.values.get("page")
            values["sorts"] = tuple(_completed(sort, statement, page) for sort in annotations.values["sorts"])
            statement = values["sorts"][0].statement or statement
        return Query(
            name=self.name,
            kind=header.kind,
            statement=statement,
            parameters=parameters,
            description=annotations.description,
            file=self._entry.where,
            line=self._entry.line,
            **values,
        )

    def _parameters(self, marked: Marked, annotations: Annotations) -> tuple[Parameter, ...]:
        """The statement's parameters with what ``@param`` declares of them."""
        declared: dict[str, Parameter] = {}
        for line, parameter in annotations.parameters:
            declared[parameter.name] = parameter
            if parameter.name not in marked.names and not self.unserved:
                there = f"; it has {', '.join(marked.names)}" if marked.names else ""
                self.report(f"@param {parameter.name}: the statement has no such parameter{there}", line)
        return tuple(
            self._with_default(declared.get(name, Parameter(name)), nullable=name in marked.nullable)
            for name in marked.names
        )

    def _with_default(self, parameter: Parameter, *, nullable: bool) -> Parameter:
        """NULL where the statement says so. A bound one's counts only where no caller is known."""
        if parameter.bound is not None:
            return msgspec.structs.replace(parameter, default=None) if self._callers.are_known else parameter
        if parameter.default is None and nullable:
            return msgspec.structs.replace(parameter, default="null")
        return parameter

    def _access(self, analysis: Analysis, annotations: Annotations) -> Access:
        line = annotations.lines.get("access", 0)
        wanted: Access | None = annotations.values.get("access")
        if wanted is Access.READ and analysis.writes:
            self.report(f"@access read, but the statement has {analysis.writes}", line)
        access = wanted or (Access.WRITE if analysis.writes else Access.READ)
        if access is Access.READ and analysis.side_effects and not analysis.writes:
            called = ", ".join(analysis.side_effects)
            self.report(f"a read cannot call {called}: add `-- @access write`", line)
        return access

    def _check_words(self, annotations: Annotations) -> None:
        """Check what needs no statement."""
        group = annotations.values.get("group")
        if group is not None and group not in self._groups:
            self.report(
                f"there is no group {group}; configured are: {self._known_groups()}", annotations.lines["group"]
            )
        self._check_callers(annotations)
        for line, parameter in annotations.parameters:
            if parameter.type is not None and not is_type(parameter.type):
                self.report(f'@param {parameter.name}: "{parameter.type}" is not a type', line)

    def _check_callers(self, annotations: Annotations) -> None:
        """Find what nobody could call, or anybody."""
        if self._callers.are_known:
            return
        for line, parameter in annotations.parameters:
            if parameter.bound is not None and parameter.default is None:
                self.report(
                    f'@param {parameter.name}: is bound to its caller, and with auth.mode = "none" nobody is known: '
                    "give it a default, or switch authentication on",
                    line,
                )
        roles = annotations.values.get("roles", ())
        if roles and self._callers.roles is not None and not set(roles) & set(self._callers.roles):
            self.report(
                f"@role {', '.join(roles)}: with allow_anonymous everybody is served, and auth.anonymous_roles has "
                "none of them",
                annotations.lines["role"],
            )

    def _check_kind(self, kind: Kind, analysis: Analysis, annotations: Annotations) -> None:
        statement = analysis.statement
        returns = statement.source is not None or statement.verb is Verb.CALL
        if kind is not Kind.EXEC and not returns:
            verb = statement.verb.upper()
            instead = ", or add RETURNING" if statement.verb.is_prepared else ""
            rows = "without RETURNING has no rows" if instead else "has no rows"
            self.report(f"{verb} {rows} for kind {kind}: use `!` or `:exec`{instead}")
        if analysis.is_ordered and not analysis.is_limited and {"page", "sort"} & annotations.lines.keys():
            word = "page" if "page" in annotations.lines else "sort"
            self._warn(f"its rows are sorted twice: leave its ORDER BY out, as @{word} sorts them")
        if "max_rows" in annotations.lines and kind is not Kind.MANY:
            self._warn(f"@max_rows has no effect, the kind is {kind}")
        if kind in (Kind.MANY, Kind.ONE):
            for column in analysis.duplicates:
                self._warn(f"two columns are called {column}")

    def _group(self, access: Access, annotations: Annotations) -> str:
        named = annotations.values.get("group")
        name: str = named or access.value
        configured = self._groups.get(name)
        if configured is None and named is None:
            self.report(f"there is no group {name} for a {access} without `@group`; configured: {self._known_groups()}")
        elif access is Access.WRITE and configured == Access.READ:
            self.report(
                f"a write cannot run in the group {name}, whose access is read", annotations.lines.get("group", 0)
            )
        return name

    def _known_groups(self) -> str:
        return ", ".join(sorted(self._groups)) or "none"


def _completed(sort: Sort, statement: Statement, page: Page | None) -> Sort:
    """A sort with its statement, or of pages with a key that no two rows share."""
    if page is None:
        return msgspec.structs.replace(sort, statement=sorted_by(statement, sort.key))
    named = {order.column for order in sort.key}
    return msgspec.structs.replace(sort, key=(*sort.key, *(order for order in page.key if order.column not in named)))
