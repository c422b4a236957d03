"""Looks whether a migration has changed what queries depend on.

One statement reads the catalogues and gives a hash for every object and every name that is watched. Columns are hashed
rather than ``xmin`` where rows change for reasons that matter to no query, so ANALYZE, VACUUM FULL, CLUSTER, REINDEX,
TRUNCATE and GRANT are not noticed. A primary and its standbys give the same hashes.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping

import msgspec

from gateway.catalogue.arguments import literal
from gateway.catalogue.dependencies import Dependencies
from gateway.catalogue.query import Kind, Text
from gateway.catalogue.types import Family, Form, Type
from gateway.catalogue.values import array_text
from gateway.postgres.qualifying import qualified
from gateway.postgres.session import Session
from gateway.postgres.single import statement
from gateway.postgres.statement import Plan

_PARTS = """
SELECT 'relation' AS kind, oid AS id, NULL::pg_catalog.name AS name, ROW(1, relnamespace, relname, relkind,
       relpersistence, relrowsecurity, relforcerowsecurity, relhasrules, relhassubclass, relowner, reltype,
       relispartition, reloptions) AS r
  FROM pg_catalog.pg_class WHERE oid = ANY ($1)
UNION ALL
SELECT 'relation', attrelid, NULL, ROW(2, attnum, attname, atttypid, atttypmod, attnotnull, atthasdef, attidentity,
       attgenerated, attisdropped, attcollation)
  FROM pg_catalog.pg_attribute WHERE attrelid = ANY ($1) AND attnum > '0'::pg_catalog.int2
UNION ALL
SELECT 'relation', adrelid, NULL, ROW(3, oid, xmin) FROM pg_catalog.pg_attrdef WHERE adrelid = ANY ($1)
UNION ALL
SELECT 'relation', conrelid, NULL, ROW(4, oid, contype, conkey, confrelid, confkey, confupdtype, confdeltype,
       conbin::pg_catalog.text)
  FROM pg_catalog.pg_constraint WHERE conrelid = ANY ($1) AND contype <> 'n'
UNION ALL
SELECT 'relation', tgrelid, NULL, ROW(5, oid, tgfoid, tgtype, tgenabled, tgconstraint)
  FROM pg_catalog.pg_trigger WHERE tgrelid = ANY ($1)
UNION ALL
SELECT 'relation', ev_class, NULL, ROW(6, oid, xmin) FROM pg_catalog.pg_rewrite WHERE ev_class = ANY ($1)
UNION ALL
SELECT 'relation', polrelid, NULL, ROW(7, oid, xmin) FROM pg_catalog.pg_policy WHERE polrelid = ANY ($1)
UNION ALL
SELECT 'relation', inhparent, NULL, ROW(8, inhrelid) FROM pg_catalog.pg_inherits WHERE inhparent = ANY ($1)
UNION ALL
-- Alike indexes count once: there are two while an index is built anew concurrently, the new one without locations.
SELECT 'relation', indrelid, NULL, ROW(9, trees, classes)
  FROM (SELECT DISTINCT indrelid, indclass::pg_catalog.oid[] AS classes,
               pg_catalog.regexp_replace(pg_catalog.concat_ws(' ', indexprs, indpred), ':location -?[0-9]+', '', 'g')
               AS trees
          FROM pg_catalog.pg_index
         WHERE indrelid = ANY ($1) AND (indexprs IS NOT NULL OR indpred IS NOT NULL
                                        OR '16384'::pg_catalog.oid <= ANY (indclass::pg_catalog.oid[]))) AS i
UNION ALL
SELECT 'relation', stxrelid, NULL, ROW(10, oid, stxexprs::pg_catalog.text)
  FROM pg_catalog.pg_statistic_ext WHERE stxrelid = ANY ($1) AND stxexprs IS NOT NULL
UNION ALL
SELECT 'type', oid, NULL, ROW(1, typnamespace, xmin) FROM pg_catalog.pg_type WHERE oid = ANY ($2)
UNION ALL
SELECT 'type', enumtypid, NULL, ROW(2, oid, xmin) FROM pg_catalog.pg_enum WHERE enumtypid = ANY ($2)
UNION ALL
SELECT 'type', contypid, NULL, ROW(3, oid, xmin)
  FROM pg_catalog.pg_constraint WHERE conrelid = '0'::pg_catalog.oid AND contypid = ANY ($2)
UNION ALL
SELECT 'relation', NULL, relname, ROW(oid)
  FROM pg_catalog.pg_class
 WHERE relname = ANY ($3) AND relnamespace = ANY ((SELECT oids FROM schemas)::pg_catalog.oid[])
UNION ALL
SELECT 'type', NULL, typname, ROW(oid)
  FROM pg_catalog.pg_type WHERE typname = ANY ($4) AND typnamespace = ANY ((SELECT oids FROM schemas)::pg_catalog.oid[])
UNION ALL
-- Who replaces a builtin function leaves its columns as they are.
SELECT 'function', NULL, proname, ROW(oid, prorettype, proretset, provolatile, pronargdefaults, proargnames,
       proallargtypes, proargmodes, CASE WHEN oid < '16384'::pg_catalog.oid THEN xmin END)
  FROM pg_catalog.pg_proc WHERE proname = ANY ($5) AND pronamespace = ANY ((SELECT oids FROM schemas)::pg_catalog.oid[])
UNION ALL
SELECT 'schema', NULL, nspname, ROW(oid) FROM pg_catalog.pg_namespace WHERE nspname = ANY ($6)
UNION ALL
SELECT 'operators', NULL, NULL, ROW(oid, xmin) FROM pg_catalog.pg_operator WHERE oid >= '16384'::pg_catalog.oid
UNION ALL
SELECT 'casts', NULL, NULL, ROW(oid, xmin) FROM pg_catalog.pg_cast WHERE oid >= '16384'::pg_catalog.oid
UNION ALL
SELECT 'memberships', NULL, NULL, ROW(oid, rolsuper, rolbypassrls, pg_catalog.pg_has_role(oid, 'USAGE'))
  FROM pg_catalog.pg_roles WHERE pg_catalog.pg_has_role(oid, 'MEMBER')
UNION ALL
SELECT 'settings', NULL, NULL, ROW(setdatabase, setrole, setconfig)
  FROM pg_catalog.pg_db_role_setting
 WHERE (setdatabase = '0'
        OR setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
   AND (setrole = '0' OR setrole = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user))
UNION ALL
SELECT 'path', NULL, NULL, ROW(ordinality, schema)
  FROM pg_catalog.unnest(pg_catalog.current_schemas(true)) WITH ORDINALITY AS path(schema)
 WHERE NOT pg_catalog.starts_with(schema::pg_catalog.text, 'pg_temp_')
"""
_MOMENT = "pg_catalog.concat(pg_catalog.pg_postmaster_start_time(), ' ', pg_catalog.pg_current_snapshot())"
_SEED = "coalesce(id::pg_catalog.int8, pg_catalog.hashtextextended(name::pg_catalog.text, '0'), '0')"
"""Rows of different objects may be the same, and their hashes must not cancel each other out."""
_HASH = f"pg_catalog.bit_xor(pg_catalog.hash_record_extended(r, {_SEED}))"
_SCHEMAS = """
WITH schemas(oids) AS (
    SELECT pg_catalog.array_agg(oid) FROM pg_catalog.pg_namespace
     WHERE nspname = ANY (pg_catalog.current_schemas(true)) OR nspname = ANY ($6))
"""
_WHOLE = qualified(f"{_SCHEMAS} SELECT {_MOMENT}, {_HASH}::pg_catalog.text FROM ({_PARTS}) AS part")
_LOOK = qualified(f"""
{_SCHEMAS}
SELECT {_MOMENT}, pg_catalog.bit_xor(hash)::pg_catalog.text,
       pg_catalog.json_object_agg(pg_catalog.concat_ws(' ', kind, id, name), hash)::pg_catalog.text
  FROM (SELECT kind, id, name, {_HASH} AS hash FROM ({_PARTS}) AS part GROUP BY kind, id, name) AS parts
""")


def _array(name: str) -> Type:
    return Type(f"{name}[]", f"pg_catalog._{name}", Family.ARRAY)


def _plan(query: str, text: str) -> Plan:
    return Plan(
        query=query,
        name=f"gw_{hashlib.sha256(text.encode()).hexdigest()[:16]}",
        form=Form.WRAPPED,
        kind=Kind.ONE,
        write=False,
        harmless=True,
        text=Text(tuple(re.split(r"\$\d", text)), tuple(int(number) - 1 for number in re.findall(r"\$(\d)", text))),
        parameters=(),
        types=tuple(map(_array, ("oid", "oid", "name", "name", "name", "name"))),
        columns=(),
        big_as_text=False,
        tag="/* gateway looks for migrations */ ",
    )


_WHOLE_PLAN = _plan("look", _WHOLE)
_PLAN = _plan("look at parts", _LOOK)


class Look(msgspec.Struct, frozen=True):
    """What the catalogue of one server said of all that is watched."""

    moment: str
    """The server's start and its snapshot: as long as they are the same, nothing has been written."""
    whole: str
    """A hash of all that is watched."""
    parts: dict[str, int]
    """A hash for every part of it."""

    def changed_since(self, before: Mapping[str, int]) -> frozenset[str]:
        """The parts that differ from those of before: see ``Dependencies.touched_by`` and ``dependencies.SETTINGS``."""
        return frozenset(part for part, _ in self.parts.items() ^ before.items())


def look(connection: Session, watched: Dependencies, deadline: float, *, since: Look | None = None) -> Look:
    """Look at the catalogue; gives ``since`` back if nothing has been written since then, which costs 0.05 ms.

    ``since``: a look that watched the same. Looks are comparable if they watch the same. Raises a GatewayError.
    """
    arguments = [
        _oids(watched.relations),
        _oids(watched.types),
        _names(watched.relation_names),
        _names(watched.type_names),
        _names(watched.function_names),
        _names(watched.schemas),
    ]
    connection.clean(deadline)
    if since is not None:
        # PERF: asked by themselves. Even to find out that it has nothing to do takes the next statement 0.3 ms, and it
        # takes three quarters of the time of the one that gives a hash for each part.
        if connection.ask(f"SELECT {_MOMENT}", deadline) == [(since.moment,)]:
            return since
        ((moment, whole),) = connection.ask(statement(connection, _WHOLE_PLAN, arguments), deadline)
        if whole == since.whole:
            return msgspec.structs.replace(since, moment=moment or "")
    ((moment, whole, parts),) = connection.ask(statement(connection, _PLAN, arguments), deadline)
    return Look(moment or "", whole or "", msgspec.json.decode(parts or "{}", type=dict[str, int]))


def _oids(oids: Iterable[int]) -> str:
    return f"'{{{','.join(map(str, sorted(oids)))}}}'"


def _names(names: Iterable[str]) -> str:
    return literal(array_text(sorted(names), ","))
