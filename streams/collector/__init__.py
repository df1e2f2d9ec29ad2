"""The HTTP collector: for systems that cannot write to Kafka.

    request ─► key or signature ─► body, bounded ─► messages ─► one produce for all who wait ─► answer

A request is answered with 2xx when the broker has every message made of it, and never before. Nothing is kept
here: what is not answered was not promised, and its sender sends it again. What the messages say is read by the
router; here they are only taken apart, and those in our own format are checked.
"""
