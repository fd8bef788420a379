"""Files, blocks and replicas: what is stored where, and how it stays so."""
