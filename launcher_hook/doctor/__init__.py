"""``launcher-hook doctor``: what is wrong with a node, a cluster's settings or a VM, and its mend.

``read_`` modules and ``gather`` make facts of files; the others are pure: facts in, findings out.
No server imports it.
"""
