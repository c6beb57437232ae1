"""One file a change of the tables, in the order of their numbers; what stands here is never changed, only added to.

A script names tables and columns itself and imports nothing of ours: it has to do the same for ever.
"""
