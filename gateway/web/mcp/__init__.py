"""Tools for agents by the Model Context Protocol: its messages, the tools, and the resource that runs them."""
