# SPDX-License-Identifier: GPL-2.0-or-later
"""The one exception tree of ``probes``.

::

    ProbeError                anything below; ``str()`` is one sentence that says what to do
    ├── PreflightError        nothing can run on this host (the command line exits 2)
    ├── FeatureMissing        one probe cannot run on this kernel; the others can
    ├── BtfError              the kernel's type information cannot be read or is malformed
    ├── LoadError             compiling, verifying or attaching failed; carries the end of the log
    ├── RecordError           a record from the kernel is malformed
    └── RecordingError        a recording file is corrupt or has another schema
"""

from __future__ import annotations

_LOG_TAIL_LINES = 30


class ProbeError(Exception):
    """Base of every error that ``probes`` raises on purpose; the message is one sentence with the remedy."""


class PreflightError(ProbeError):
    """No probe can run on this host: privileges, architecture, BTF, bcc, tracefs or kernel version."""


class FeatureMissing(ProbeError):
    """This kernel lacks something that one probe needs.

    ``struct`` and ``member`` name the kernel structure and the member as the probe spells it; both are empty
    when what is missing is not a structure member.
    """

    def __init__(self, message: str, struct: str = "", member: str = "") -> None:
        super().__init__(message)
        self.struct = struct
        self.member = member


class BtfError(ProbeError):
    """A BTF file cannot be read, is truncated or contradicts its own format."""


class LoadError(ProbeError):
    """The compiler, the verifier or an attachment refused a program.

    ``log`` is the end of what clang or the verifier printed (the verdict stands in its last lines).
    """

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = "\n".join(log.splitlines()[-_LOG_TAIL_LINES:])


class RecordError(ProbeError):
    """A record from the kernel does not have the shape that its kind declares."""


class RecordingError(ProbeError):
    """A recording file is corrupt or was written with another schema."""
