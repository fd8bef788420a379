"""Composition: what starts daemons, runs jobs in this process, and puts the pieces together."""
