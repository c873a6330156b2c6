"""What a central, a command and an agent say to each other, whatever carries it.

A request is answered by any number of `Progress` and then by one final reply.  What a message of another version has
in addition is passed over; what it lacks has the default.  So fields are only ever added, with a default, at the end.
"""
