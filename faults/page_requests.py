"""A thousand requests to the page, each by its number: good ones, and all that a hostile or clumsy client may send."""

from __future__ import annotations

import numpy as np

from faults import page_bodies as bodies
from faults import page_heads as heads
from faults import page_site as good
from faults import page_slow as slow
from faults.clients import Request

# In turn. The slow ones come last: the tests' sample goes without them.
KINDS: list[good.Make] = [
    good.recording, good.spoken("recognise?languages=es,pt"), good.page, bodies.damaged("cut"),
    bodies.hostile("playlist"), heads.wrong_host, heads.path, bodies.damaged("flipped"), heads.wrong_origin,
    bodies.chunks, bodies.too_large, good.recording, slow.hung_up, bodies.damaged("random"), heads.languages,
    bodies.bomb, good.spoken("recognise?all_sound=1"), bodies.lengths, heads.no_http, good.kept_open,
    bodies.odd_sound, heads.method, good.in_chunks, heads.websocket, bodies.stopped, bodies.hostile("document"),
    bodies.damaged("spliced"), heads.large_head, good.page, good.spoken("explain"), heads.odd_fields,
    bodies.both_lengths, slow.hung_up,
    good.spoken("recognise?languages=" + ",".join(["es", "pt"] * 3000), "recognise?languages=es,pt"), heads.no_host,
    bodies.referring, bodies.too_short, heads.experiments, good.old, bodies.damaged("flipped"), heads.wrong_origin,
    heads.path, good.recording, heads.odd_fields, bodies.hostile("playlist"),
    good.spoken("recognise?languages=fi&languages=es,pt", "recognise?languages=es,pt"), bodies.damaged("cut"),
    heads.wrong_host, slow.silent, slow.endless_head, slow.dropped_body, slow.endless_body, slow.unread,
    slow.endless_body,
]  # fmt: skip


def request_of(number: int, seed: int, site: good.Site) -> tuple[str, Request]:
    """Its kind in words, and the request."""
    make = KINDS[number % len(KINDS)]
    what = make.__qualname__.partition(".")[0].replace("_", " ")
    return what, make(site, np.random.default_rng([seed, number]))
