"""Other model servers, each in an environment of its own: ``build/rivals/NAME``.

A folder here is a rival: ``requirements.txt``, with every package and its version, and the module that is served,
written as the rival's documentation advises. All run the same forest (``forest.py``) with the same version of
onnxruntime. Where a rival has options for speed they are those that served it best on the machine of the published
figures; each module says what they are, and what else was tried.
"""
