"""Who answers. Each rival exports ``label``, ``setup(task)`` and ``run(i)``; it runs on one thread."""
