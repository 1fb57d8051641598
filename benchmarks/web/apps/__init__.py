"""One app a module, each written as its host's users would write it.

Each exports ``app``, reads its models from the folder ``$MODELS`` (``benchmarks.web.workload`` writes them), and
answers a POST of one row, a JSON object of 30 numbers, with ``{"answers": [[p, 1 - p]]}``.
"""
