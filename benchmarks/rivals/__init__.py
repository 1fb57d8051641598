"""Who answers. Each rival exports ``label``, ``setup(task)`` and ``run(i)``, the answer to input i.

Under load (``benchmarks.load``) ``run`` is called by many threads at once. A rival for asyncio exports
``arun(i)``, a coroutine function, in place of ``run``. One that can refuse calls exports
``run_within(i, timeout_s)`` as well, and ``refused`` and ``expired``, the exceptions it raises then.

Where a library or a batcher of this folder asks for settings, they are those that served it best on the
machine of the published figures; each module says what they are.
"""
