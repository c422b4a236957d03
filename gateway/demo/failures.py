"""What can go wrong with an embedded cluster."""


class ClusterError(Exception):
    """The cluster, or one of its servers, cannot be had as asked; the message is for people."""
