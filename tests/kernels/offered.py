# SPDX-License-Identifier: GPL-2.0-or-later
"""Which form each probe gets on the kernel whose facts are seen, for each `--attach`, as JSON on standard output.

`python -m tests.kernels.offered FORM...`, where `facts.compile_for` has put a kernel's facts in place of this host's.
"""

from __future__ import annotations

import json
import sys
from typing import cast

from probes.errors import FeatureMissing
from probes.kernel.btf import Btf
from probes.kernel.features import Features, Host
from probes.kernel.fit import fit
from probes.probe import Attach, Probe
from probes.registry import all_probes


def main() -> None:
    btf = Btf.read()
    features = Features.probe(Host.current(), btf)

    def offer(probe: Probe, attach: Attach) -> dict[str, str]:
        try:
            fitted = fit(probe, features, btf, attach)
        except FeatureMissing as error:
            return {"form": "", "reason": str(error)}
        missing = "; ".join(f"{hook.sees} ({reason})" for hook, reason in fitted.missing)
        return {"form": fitted.form.name, "misses": missing}

    forms = [cast("Attach", form) for form in sys.argv[1:]]
    print(json.dumps({form: {name: offer(probe, form) for name, probe in all_probes().items()} for form in forms}))


if __name__ == "__main__":
    main()
