"""Compare a client's own messages with ours: ``grpc_messages.py MODULE OURS.json``."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from filled import differences, fields_of, written

MODULE, OURS = sys.argv[1:3]


def classes(owner: Any, outer: str = "") -> dict[str, Any]:
    """Of a module, or those within a message."""
    descriptor = owner.DESCRIPTOR
    nested = getattr(descriptor, "nested_types_by_name", None)
    found = {}
    for name, one in (descriptor.message_types_by_name if nested is None else nested).items():
        if not one.GetOptions().map_entry:
            found[outer + name] = getattr(owner, name)
            found.update(classes(found[outer + name], f"{outer}{name}."))
    return found


try:
    known = classes(importlib.import_module(MODULE))
except ModuleNotFoundError as error:
    sys.stdout.write(json.dumps({"missing": error.name}))
    sys.exit()

ours = json.loads(Path(OURS).read_text())
different = []
for name, given in ours["written"].items():
    if name in known:
        different += differences(known[name], given, ours["fields"])

sys.stdout.write(
    json.dumps(
        {
            "different": different,
            "written": {name: written(made) for name, made in known.items()},
            "fields": dict(fields_of(made) for made in known.values()),
        }
    )
)
