"""From a trained model of any supported framework to a proven ONNX model, or to the native plan.

:mod:`~infersdk.convert.conversion` is the whole way: find the converter, describe the model, write the
graph, compare it with the source, and decide. ``registry`` lists the converters, ``parity`` makes the
comparison. Nothing is imported here: a process that has not loaded a model need not pay for it.
"""
