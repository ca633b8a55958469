# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m bench``, which ``hookline bench`` becomes."""

from bench.cli import main

if __name__ == "__main__":
    main()
