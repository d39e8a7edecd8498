"""What befalls a run from outside, at every stage: `make faults` prints what happened, and whether the bytes are equal.

No disk is harmed and no user made: the processes run in a mount namespace of their own (`unshare -rm`), where the
workspace is a small file system in memory. A full disk is that file system with less room left than the stage needs;
a read-only folder is one mounted again as read-only, which binds root as well.
"""
