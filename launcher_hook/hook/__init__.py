"""The hook sidecar: what virt-launcher calls while it makes a VM's domain.

Nothing about domains is decided here: a call is ``render.render_domain`` with what the launcher
sent and what the container has (environment, ``/sys``). What is ours here is the manner: be there
before the socket is, answer within the launcher's limits, say in one sentence what a VM's owner
must do, and go when told to.
"""
