"""The colours and fonts of a picture."""

from launcher_hook.report.heatmap import STYLE as HEATMAP_STYLE

HEAD = 15.0
NOTE = 10.5
"""Sizes of headings and of what stands below."""

HUES = (
    ("#e8f0fb", "#9db8e0"),
    ("#fbeee3", "#e3b98f"),
    ("#eaf5ea", "#9fcba2"),
    ("#f4ebf8", "#c4a3d4"),
)
NO_HUE = ("#f2f3f5", "#c3c8d0")
"""Background and line of a zone: a NUMA node and its cell have one colour."""

STYLE = (
    "text{font-family:ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:#1d232b}"
    ".head{font-size:15px;font-weight:bold}"
    ".zone{font-size:11px;font-weight:bold}"
    ".label{font-size:11px}"
    ".detail{font-size:9.5px;fill:#4d5764}"
    ".note{font-size:10.5px;fill:#3d4652}"
    ".word{font-size:9px;text-anchor:middle}"
    ".end{text-anchor:end}"
    ".box{fill:#ffffff;stroke:#8a94a3}"
    ".root{fill:#dfe4ea;stroke:#8a94a3}"
    ".bridge{fill:#f6f7f9;stroke:#a6afbc}"
    ".other{fill:none;stroke:#a6afbc;stroke-dasharray:3 2}"
    ".group{fill:#fff8d9;stroke:#c9b458}"
    ".joint{stroke:#8a94a3;fill:none}"
    ".link{stroke:#2f5fa8;stroke-width:1.4;stroke-dasharray:5 3;fill:none}"
    ".badge{fill:#2f5fa8}"
    ".in{font-size:9.5px;fill:#ffffff;text-anchor:middle}"
    ".grid{stroke:#ffffff;stroke-width:1;fill:none}"
    ".changed{fill:#000000}"
    + HEATMAP_STYLE
    + ".mark{font-size:11px;font-weight:bold;fill:#b3261e;text-anchor:end}"
)
