"""The HTTP side, the only importer of Falcon beside ``app``."""
