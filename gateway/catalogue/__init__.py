"""Named queries: text files become one immutable catalogue."""
