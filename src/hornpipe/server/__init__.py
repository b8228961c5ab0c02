"""Servers that can be left alone: from a handler or a command to a service (perlipc:N5, N6, N15, N18).

- ``server``: the face, and what a server lives through
- ``inline``, ``forked``, ``preforked``, ``threaded``: the four models; ``model``: what they have in common
- ``service``: one client from beginning to end; ``programs``: a program as its handler
- ``loop``: what the parent waits for; ``counts``: what all processes count together
"""

from __future__ import annotations

from hornpipe.server.counts import Counts
from hornpipe.server.options import ServerOptions
from hornpipe.server.server import Server, serve

__all__ = ["Counts", "Server", "ServerOptions", "serve"]
