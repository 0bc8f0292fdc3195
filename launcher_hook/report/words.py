"""A picture in words: for who cannot see it, and what its distances come to. Pure."""

from launcher_hook.report.picture import Picture, side_leaves

NO_DEVICES = "No devices are passed to this guest."


def describe(picture: Picture) -> str:
    """The picture in words."""
    if not picture.devices:
        return NO_DEVICES
    places = dict.fromkeys(range(len(picture.devices)), "")
    for leaf in side_leaves(picture.host):
        if leaf.device is not None:
            places[leaf.device] = leaf.label
    sentences = [
        f"{leaf.label}: {places[leaf.device]} on the node, {leaf.detail or 'left to libvirt'} in "
        "the guest."
        for leaf in side_leaves(picture.guest)
        if leaf.device is not None
    ]
    return " ".join((*sentences, verdict(picture)))


def verdict(picture: Picture) -> str:
    """What the distances come to."""
    count = len(picture.units)
    pairs = [(one, other) for one in range(count) for other in range(one)]
    if not pairs:
        return ""
    unknown = sum(
        None in (picture.host_distances[a][b], picture.guest_distances[a][b]) for a, b in pairs
    )
    changed = sum(picture.changed(one, other) for one, other in pairs)
    of = f"{len(pairs)} pairs" if len(pairs) > 1 else "1 pair"
    if unknown == len(pairs):
        return "How far the devices are apart is not known."
    if changed:
        verb = "is" if changed == 1 else "are"
        text = f"{changed} of {of} {verb} another distance apart in the guest than on the node."
    else:
        text = "Every two devices are as far apart in the guest as on the node."
    return f"{text} Of {unknown} it is not known." if unknown else text
