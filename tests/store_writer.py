"""Writes to a store until it is killed, and tells on stdout what was acknowledged: `store_writer.py URL NAME`."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from itertools import count

from synthrec import stores
from synthrec.stores import Event


def main(url: str, name: str) -> None:
    store = stores.open(url)
    for number in count():
        ids = [f"{name}-{number}.{part}" for part in range(3)]
        store.add_events([Event(one, "ann", "p", "view", datetime.now(UTC)) for one in ids])
        revision = store.put_products([{"product_id": f"{name}-{number}"}])
        print(json.dumps({"events": ids, "product": f"{name}-{number}", "revision": revision}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
