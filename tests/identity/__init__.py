"""Who is who: stories and properties of identity resolution, through the resolver, the router and the fold."""
