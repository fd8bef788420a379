"""The wire: dataclasses to protobuf and back, methods and how to call them, errors to codes. Alone imports `proto`."""
