"""Delivering changes over HTTP: each endpoint reads for itself, tries again by a schedule, and keeps the order."""
