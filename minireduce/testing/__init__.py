"""The kit that tests of minireduce, and of jobs written with it, stand on."""
