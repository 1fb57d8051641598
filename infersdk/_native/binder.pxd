# For Session, which takes rows from where they were bound.

cdef class Bound:
    cdef readonly list arrays
    cdef readonly Py_ssize_t n_rows
    cdef readonly bint torch
