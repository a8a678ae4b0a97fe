"""Nothing lost: programs are killed, disks filled and networks cut, and then everything that was kept must be there.

Each fault has a seed of its own (see ``seeded``). The program under test writes a journal of what it is about to keep
and of what the store said it has kept (``journal``, on another disk than the store). After the fault the store must
hold exactly one of the states that the journal allows, pass its integrity check, and take the next turn (``checks``).
"""
