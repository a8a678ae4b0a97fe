"""Nothing lost: programs are killed, disks filled and networks cut, and then everything that was kept must be there.

Each fault has a seed of its own (see ``fault``). The program under test logs what it is about to keep and what
the store said it has kept (``event_log``, on another disk than the store). After the fault the store must hold exactly
one of the states that the log allows, pass its integrity check, and take the next turn (``checks``).
"""
