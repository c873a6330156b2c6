"""What slivers use of this node, by day: counted from the kernel's counters, kept on disk until the central has it."""
