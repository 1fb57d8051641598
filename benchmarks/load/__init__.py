"""Many callers at once: closed and open load by threads, closed load by asyncio tasks, MLPerf's LoadGen.

A load drives one rival in this process and gives its figures as a flat dict of numbers: counts, seconds
in ``_s``, microseconds in ``_us``, rates in ``_per_s``. Every answer that is kept is compared with the
expected one after the clock has stopped.
"""
