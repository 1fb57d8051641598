"""``python -m tests.gallery [prefix]``: load every model of the gallery and write docs/frameworks.md.

With a prefix only the sections of the modules whose file name starts so are written anew.
"""

from __future__ import annotations

import sys
import time
import traceback
import warnings

from tests.gallery import table
from tests.gallery.entry import Record, find, measure


def main(prefix: str = "") -> int:
    warnings.simplefilter("ignore")
    known, _ = table.read()
    found: table.Sections = {}
    rivals: dict[str, str] = {}
    failed: list[str] = []
    for module, entries in find(prefix):
        for entry in entries:
            section, name = table.key(entry)
            records = found.setdefault(section, {})
            if entry.rival:
                rivals[section] = entry.rival.name
            start_s = time.perf_counter()
            record: Record | None
            try:
                record = measure(entry, with_rival=True)
            except Exception as exc:
                if not isinstance(exc, ModuleNotFoundError):
                    traceback.print_exc(limit=-4)
                print(f"{entry}: {type(exc).__name__}: {exc}", flush=True)
                failed.append(str(entry))
                record = known.get(section, {}).get(name)
            else:
                took_s = time.perf_counter() - start_s
                print(
                    f"{module:<14} {entry!s:<60} {record.plan:<7} {record.error:8.1e} "
                    f"{'-' if record.flips is None else record.flips:>3} {record.rival:<8}"
                    f"{took_s:5.1f} s  {record.reason[:90]}",
                    flush=True,
                )
                if record.flips or record.power > -3:
                    failed.append(f"{entry}: it answers differently")
            if record is not None:
                records[name] = record
    order = list(dict.fromkeys(table.key(entry)[0] for _, group in find() for entry in group))
    table.write(found, rivals, order)
    for line in failed:
        print(f"FAILED {line}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
