"""Runs calls: what is known of each query, and how a call of one becomes an answer. Knows nothing of HTTP."""
