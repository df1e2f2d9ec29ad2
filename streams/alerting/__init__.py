"""Sales is told: which change, to whom, when, in which words, and never the same heat twice.

    segment.changes ─► Settler ─► step ─► alerts.state ─► Redis ─► Teller ─► Slack, e-mail, webhook
                                   ▲                                  │
                                   └── told, refused, snoozed, … ─────┘

`stepping.step` is the core: pure, and it alone decides what becomes of an alert. A record in `alerts.state` says
what is to be told before anything is sent; another one says that it was. Whoever dies in between leaves the first,
and the same is sent again under the same key.
"""
