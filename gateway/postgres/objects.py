"""What the server's catalogues say of relations, functions and operators that users have made, and of builtin ones.

OIDs are the same on all servers of one cluster.
"""

from collections.abc import Iterable

import msgspec

from gateway.postgres.qualifying import qualified
from gateway.postgres.session import Session
from gateway.postgres.types import TypeBook

FIRST_OF_USERS = 16384
"""OIDs from here on were created after initdb (FirstNormalObjectId in PostgreSQL's sources)."""
INSERT, DELETE, UPDATE = 4, 8, 16
"""What may be done to a table, as in ``pg_trigger.tgtype``."""

_WITHOUT_EFFECT = """
array_sample array_shuffle clock_timestamp current_query gen_random_uuid pg_blocking_pids pg_current_wal_flush_lsn
pg_current_wal_insert_lsn pg_current_wal_lsn pg_database_size pg_indexes_size pg_is_in_recovery
pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_relation_size pg_sleep pg_sleep_for
pg_sleep_until pg_table_size pg_total_relation_size random random_normal timeofday uuidv4 uuidv7
"""
"""Builtin functions that are volatile and do nothing to the session."""
_BUILTIN = qualified(f"""
SELECT oid::int8::text, proname::text, (
       provolatile = 'v' AND proname = ANY (pg_catalog.regexp_split_to_array('{_WITHOUT_EFFECT}', '\\s+'))
       AND (prolang <> 14 OR prosqlbody IS NOT NULL))::text
  FROM pg_catalog.pg_proc
 WHERE oid < {FIRST_OF_USERS}
   -- Volatile ones; those that run SQL or another type's input function, which they are given as text; and those in
   -- SQL whose text is resolved when they are called, or in a language that no builtin function has.
   AND (provolatile = 'v'
        OR proname ~ '_to_xml|^pg_input_'
        OR prolang = 14 AND prosqlbody IS NULL
        OR prolang <> ALL ('{{12,13,14}}'))
""")
_RELATIONS = qualified(f"""
SELECT pg_catalog.json_build_object(
    'oid', c.oid::int8, 'name', c.relname, 'schema', n.nspname, 'kind', c.relkind, 'persistence', c.relpersistence,
    'rules', c.relhasrules AND c.relkind <> 'v',
    'foreign_code', c.relam >= {FIRST_OF_USERS} OR EXISTS (
        SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
         WHERE i.indrelid = c.oid
           AND (x.relam >= {FIRST_OF_USERS} OR {FIRST_OF_USERS} <= ANY (i.indclass::pg_catalog.oid[]))) OR EXISTS (
        SELECT FROM pg_catalog.pg_partitioned_table p
         WHERE p.partrelid = c.oid AND {FIRST_OF_USERS} <= ANY (p.partclass::pg_catalog.oid[])) OR EXISTS (
        SELECT FROM pg_catalog.pg_constraint k
         WHERE k.conrelid = c.oid
           AND {FIRST_OF_USERS} <= ANY (k.conpfeqop || k.conppeqop || k.conffeqop || k.conexclop)),
    'types', ARRAY(SELECT DISTINCT a.atttypid::int8 FROM pg_catalog.pg_attribute a
                    WHERE a.attrelid = c.oid AND a.atttypid >= {FIRST_OF_USERS} AND NOT a.attisdropped),
    'expressions', ARRAY(
        SELECT k.conbin::text FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.conbin IS NOT NULL
        UNION ALL
        SELECT e::text FROM pg_catalog.pg_index i, LATERAL (VALUES (i.indexprs), (i.indpred)) AS v(e)
         WHERE i.indrelid = c.oid AND e IS NOT NULL
        UNION ALL
        SELECT p.partexprs::text FROM pg_catalog.pg_partitioned_table p
         WHERE p.partrelid = c.oid AND p.partexprs IS NOT NULL
        UNION ALL
        SELECT s.stxexprs::text FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = c.oid AND s.stxexprs IS NOT NULL
        UNION ALL
        SELECT d.adbin::text FROM pg_catalog.pg_attrdef d
          JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
         WHERE d.adrelid = c.oid AND a.attgenerated <> ''),
    'defaults', ARRAY(SELECT d.adbin::text FROM pg_catalog.pg_attrdef d WHERE d.adrelid = c.oid),
    'triggers', ARRAY(SELECT pg_catalog.json_build_array(t.tgname, t.tgtype) FROM pg_catalog.pg_trigger t
                       WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D'),
    'children', ARRAY(SELECT i.inhrelid::int8 FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid),
    'parents', ARRAY(SELECT i.inhparent::int8 FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid),
    'referenced', ARRAY(SELECT k.confrelid::int8 FROM pg_catalog.pg_constraint k
                         WHERE k.conrelid = c.oid AND k.contype = 'f'),
    'referencing', ARRAY(
        -- By the triggers that keep it, since constraints have no index on what they refer to.
        SELECT DISTINCT pg_catalog.jsonb_build_array(k.conrelid::int8, k.confdeltype, k.confupdtype)
          FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_constraint k ON k.oid = t.tgconstraint
         WHERE t.tgrelid = c.oid AND k.confrelid = c.oid AND k.contype = 'f'))::text
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = ANY ('{{{{{{oids}}}}}}') AND c.relkind <> ALL ('{{{{i,I,t,c}}}}')
""")
_FUNCTIONS = qualified("""
SELECT pg_catalog.json_build_object('oid', p.oid::int8, 'name', p.proname, 'schema', n.nspname,
                                    'volatile', p.provolatile = 'v')::text
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE p.oid = ANY ('{{{oids}}}')
""")
_OPERATORS = qualified(f"""
SELECT oid::int8::text, (oprcode < {FIRST_OF_USERS} AND oprrest < {FIRST_OF_USERS}
                         AND oprjoin < {FIRST_OF_USERS})::text
  FROM pg_catalog.pg_operator WHERE oid = ANY ('{{{{{{oids}}}}}}')
""")


_QUIET = "SELECT pg_catalog.has_parameter_privilege('log_min_messages', 'SET')::pg_catalog.text"
_PARAMETER_PRIVILEGES_SINCE = 150000


class Relation(msgspec.Struct):
    """A table, view or the like."""

    oid: int
    name: str
    schema: str
    kind: str
    persistence: str
    rules: bool
    foreign_code: bool
    """Whether it has an access method, operator class or constraint's operator that users have made."""
    types: list[int]
    """Of its columns, as far as users have made them."""
    expressions: list[str]
    """Trees that may be computed whatever is done to it: of constraints, indexes, partitions, generated columns."""
    defaults: list[str]
    triggers: list[tuple[str, int]]
    """Names and ``tgtype`` of those that users have made."""
    children: list[int]
    """What inherits from it, partitions included."""
    parents: list[int]
    referenced: list[int]
    """Tables that its foreign keys refer to."""
    referencing: list[tuple[int, str, str]]
    """Tables whose foreign keys refer to it, with what happens there when a row is deleted and updated."""


class Function(msgspec.Struct):
    """A function that users have made."""

    oid: int
    name: str
    schema: str
    volatile: bool


class Book:
    """Objects by OID, read as they are asked for and kept: for one look through the catalogue, as objects change."""

    def __init__(self) -> None:
        self.types = TypeBook()
        self.relations: dict[int, Relation] = {}
        self.functions: dict[int, Function] = {}
        self.operators: dict[int, bool] = {}
        """Operators that users have made, and whether all of their functions are builtin."""
        self.builtin: dict[int, str] = {}
        """Names of builtin functions that may do something to the session, or run what somebody else has made."""
        self.volatile: frozenset[int] = frozenset()
        """Builtin functions that do nothing of the kind, but give something else each time."""
        self.is_quiet = False
        """Whether our role may keep what a session does out of the server's log."""
        self.identifies: bool | None = None
        """Whether the server computes ids of queries; None: it was not asked."""
        self._known: set[int] = set()

    def read(self, connection: Session, oids: Iterable[int], deadline: float) -> None:
        """Read what these are, each in every catalogue that has such an OID; raises a GatewayError."""
        if not self.builtin:
            if connection.server_version >= _PARAMETER_PRIVILEGES_SINCE:
                self.is_quiet = connection.ask(_QUIET, deadline)[0][0] == "true"
            found = connection.ask(_BUILTIN, deadline)
            self.builtin = {int(oid or 0): name or "" for oid, name, is_idle in found if is_idle == "false"}
            self.volatile = frozenset(int(oid or 0) for oid, _, is_idle in found if is_idle == "true")
        missing = set(oids) - self._known
        if not missing:
            return
        listed = ", ".join(map(str, sorted(missing)))
        for (text,) in connection.ask(_RELATIONS.format(oids=listed), deadline):
            relation = msgspec.json.decode(text or "", type=Relation)
            self.relations[relation.oid] = relation
        for (text,) in connection.ask(_FUNCTIONS.format(oids=listed), deadline):
            function = msgspec.json.decode(text or "", type=Function)
            self.functions[function.oid] = function
        for oid, builtin in connection.ask(_OPERATORS.format(oids=listed), deadline):
            self.operators[int(oid or 0)] = builtin == "true"
        self.types.read(connection, missing, deadline)
        self._known |= missing
