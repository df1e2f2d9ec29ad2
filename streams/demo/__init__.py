"""A made-up market to watch: fictional companies and the messages their CRM and web site would send.

`companies.build(seed)` makes the companies, `traffic.opening` tells their past, `traffic.live` goes on
from there. Nothing in here is real: every domain is under the reserved `.example`, every IP address in a
documentation range.
"""
