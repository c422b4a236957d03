"""What of a session's state is reset between two uses, and what the server reports of it without being asked."""

RESET = (
    "RESET ALL; SET SESSION AUTHORIZATION DEFAULT; CLOSE ALL; UNLISTEN *;"
    " SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES"
)
"""First of all the settings, so that nothing a query has set has a say in the rest."""

REPORTED = (
    "TimeZone",
    "default_transaction_read_only",
    "DateStyle",
    "IntervalStyle",
    "standard_conforming_strings",
    "client_encoding",
    "session_authorization",
    "search_path",
)
"""Settings whose changes a server reports unasked (the last one from PostgreSQL 18 on)."""
