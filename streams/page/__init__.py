"""The page of `isotherm serve`: what happens, why an account stands where it does, whether data can be trusted.

    Redis, the hub ──► board, survey … (read, kept for a moment) ──► views (pure) ──► templates ──► browser
                                                                                         ▲ morphs what changed
    hub ──► /live (that something changed) ──────────────────────────────────────────────┘

Everything is rendered here and escaped by Jinja; the browser's scripts only put newer text in place of older.
"""
