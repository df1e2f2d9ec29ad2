"""What a delivery looks like at each kind of destination, and what its answers mean."""
