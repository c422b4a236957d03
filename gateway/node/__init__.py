"""What a worker knows of its servers and of its queries, and shares with the other workers of the node."""
