# SPDX-License-Identifier: GPL-2.0-or-later
"""The enrich stage: each enrichment is a module with its own bounded cache and statistics."""
