"""Passes a node's PCI functions to a KubeVirt VM: see ``render.render_domain``, the story of it."""

__version__ = "0.1.0"
