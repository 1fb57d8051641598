"""A project of somebody else's is not collected here: test_outside_project.py runs its tests."""

collect_ignore = ["outside"]
