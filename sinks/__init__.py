# SPDX-License-Identifier: GPL-2.0-or-later
"""Where events end: one folder a sink, each with its configuration and ``open_sink(config)``."""
