"""The master's shell: gRPC in front of the machine, SQL behind it, and the watermark between the two."""
