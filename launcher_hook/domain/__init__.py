"""The domain XML: the one place that parses, inspects, edits and prints it.

A launcher's domain holds things that no struct of ours knows, and a VM that loses one of them
does not start, or starts as another machine. So the tree is edited and never rebuilt: comments,
foreign namespaces, unknown elements, order and text stay as they came; only ``<hostdev>``s of
type pci and mdev, and the root ports that carry them, are ours to write.
"""
