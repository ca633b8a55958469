# SPDX-License-Identifier: GPL-2.0-or-later
"""How probes get in and bytes get out: BTF reader, header tree, feature probe, loader child, ring reader."""
