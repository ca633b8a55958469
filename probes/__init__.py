# SPDX-License-Identifier: GPL-2.0-or-later
"""What the host tells us: kernel probes, each a pair of files (NAME.c in the kernel, NAME.py its event)."""
