"""The device plugin: what a node has for kubelet to give to VMs, and the variables that say so.

The half that comes before the hook: it fills ``PCI_RESOURCE_*``, the hook reads them. What is
offered is decided from the node's facts alone (``devices``, ``health``, ``allocation``: pure); what
is ours besides is the manner (``lifecycle``): one device with trouble hides no other, kubelet may
come, go and delete our sockets at any time, and nothing is given out that has changed meanwhile.
"""
