"""Work on many cases: what a folder of them holds, and readings that begin with another one."""
