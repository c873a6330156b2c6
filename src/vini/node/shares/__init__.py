"""What slivers may send by this node's uplink: who is kept to what, where packets leave, and how much was sent."""
