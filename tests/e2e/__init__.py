"""`make e2e`: PCI functions really passed through, in a machine that is emulated whole.

Level 0 is the machine this runs on; level 1 is emulated, has an IOMMU, NUMA nodes and PCI
functions, and is the KubeVirt node; level 2 is the VM that gets the functions.

On level 0: ``machine`` (the image of level 1, from packages), ``project`` (what is ours in it),
``topology`` (its devices), ``boot`` (it runs), ``report``, ``run``. On level 1: ``agent`` (goes
through the cases), ``node`` (its ``/sys``), ``chain`` (device plugin, sidecar, launcher, libvirt),
``vm`` (libvirt and the guest's monitor). ``cases`` is data for both.
"""
