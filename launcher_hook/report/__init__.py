"""A plan for people and programs: table, tree, JSON, and pictures. The servers never load it.

Each kind of output has a module; what they say of a device is in ``facts``, and what the tree and
the pictures draw is in ``picture``: the node's side, the guest's side, and the distances.
"""
