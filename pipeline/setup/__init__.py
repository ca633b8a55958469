# SPDX-License-Identifier: GPL-2.0-or-later
"""What `hookline setup` installs in the servers that events go to."""
