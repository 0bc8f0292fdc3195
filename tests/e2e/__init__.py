"""`make e2e`: PCI functions really passed through, in a machine that is emulated whole.

Level 0 is the machine this runs on; level 1 is emulated, has an IOMMU, NUMA nodes and PCI
functions, and is the KubeVirt node; level 2 is the VM that gets the functions.

On level 0: ``machine`` (the image of level 1, from packages), ``project`` (what is ours in it),
``topology`` (its devices), ``boot`` (it runs), ``report``, ``run``. On level 1: ``agent`` (goes
through the cases), ``stage`` (does each), ``node`` (its ``/sys``), ``chain`` (sidecar, launcher and
libvirt up to a defined VM), ``vm`` (libvirt, and what a guest shows). ``cases`` is data for both.
"""
