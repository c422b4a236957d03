"""A connection pool as a service: named PostgreSQL queries over JSON HTTP."""

__version__ = "0.1.0"
