# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""Rows into packed input matrices, and graph outputs into answers: the hot ends of a prediction.

Why compiled: a dict row of 30 numbers is bound in about the time that Python needs for three of them.
What is here is only the fast path and the exact rule of each field. Whatever is wrong with a row is
told by the ``refuse`` callback of :class:`RowBinder`, written in Python; whatever is merely unusual
(a DataFrame, a masked array, a generator) makes ``bind`` return None, and ``infersdk.binding`` brings
it into a form known here.

Every object is immutable after construction and may be used by any number of threads.
"""

cimport cython
cimport numpy as cnp
from cpython.dict cimport PyDict_CheckExact
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_Check, PyFloat_CheckExact
from cpython.list cimport PyList_CheckExact
from cpython.long cimport PyLong_Check
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from cpython.number cimport PyNumber_Float, PyNumber_Index
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_Check, PyUnicode_CheckExact, PyUnicode_FromObject
from libc.math cimport NAN, floor, isfinite, isinf, isnan
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memcpy

from sys import intern

import numpy as np

cnp.import_array()

cdef extern from "Python.h":
    PyObject* PyDict_GetItemWithError(PyObject* row, PyObject* key) except? NULL
    Py_ssize_t PyDict_GET_SIZE(object row)
    long long PyLong_AsLongLongAndOverflow(object value, int* overflow) except? -1
    int PyUnicode_KIND(object text)
    void* PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)

cdef extern from "numpy/arrayobject.h":
    object PyArray_Empty(int ndim, cnp.npy_intp* shape, cnp.dtype dtype, int fortran)
    object get_item "PyArray_GETITEM"(cnp.ndarray owner, const char* cell)

# What the app passes for a field.
cdef enum Kind:
    FLOAT
    INT
    BOOL
    TEXT

# What the matrix that the field goes into holds.
cdef enum Store:
    F32
    F64
    I64
    I32
    B8
    STR

# Why a value is refused; the order is that of REASONS.
cdef enum Status:
    OK = 0
    MISTYPED
    MISSING
    FRACTION
    INEXACT
    OVERFLOW
    INFINITE
    SURROGATE
    UNKNOWN

cdef tuple REASONS = (
    "ok", "mistyped", "missing", "fraction", "inexact", "overflow", "infinite", "surrogate", "unknown",
)
cdef object LONGDOUBLE = np.longdouble  # holds more than a Python float
cdef object BOOL_SCALAR = np.bool_
cdef dict KINDS = {"float": FLOAT, "int": INT, "bool": BOOL, "string": TEXT}
cdef dict STORES = {
    "float32": (F32, cnp.NPY_FLOAT32, 4),
    "float64": (F64, cnp.NPY_FLOAT64, 8),
    "int64": (I64, cnp.NPY_INT64, 8),
    "int32": (I32, cnp.NPY_INT32, 4),
    "bool": (B8, cnp.NPY_BOOL, 1),
    "string": (STR, cnp.NPY_OBJECT, sizeof(PyObject*)),
}

# Below this many numbers a pass is shorter than getting the GIL back may take.
cdef Py_ssize_t RELEASE_GIL_ABOVE = 1 << 19
# Rows taken at a time from a matrix: 30 columns of float64 are then 120 KiB.
cdef Py_ssize_t BLOCK_ROWS = 512
# Inputs whose base pointers fit on the stack of a call.
cdef enum:
    STACK_INPUTS = 16

# 2**63 and 2**31 as doubles: the first values past the integer types.
cdef double INT64_END = 9223372036854775808.0
cdef double INT32_END = 2147483648.0


# One read field, compiled.
cdef struct Plan:
    PyObject* name         # interned str, kept alive by RowBinder._keep
    PyObject* codes        # dict of category to index, or NULL where no look-up is needed
    PyObject* blank        # what a missing text becomes
    Kind kind
    Store store
    int target             # index of the input
    Py_ssize_t offset      # bytes from the start of a row of that input
    Py_ssize_t field       # index among all fields
    bint refuse_missing
    bint refuse_infinity
    bint refuse_unknown
    bint as_code           # the model takes the index, not the value
    bint plain             # any number goes straight into a float32 cell


@cython.final
@cython.freelist(16)
cdef class Bound:
    """Rows ready to run.

    Parameters
    ----------
    arrays : list of numpy.ndarray
        One per graph input, in its order, of exactly its dtype, C-contiguous. They may share memory
        with what the app passed, and may be read-only.
    n_rows : int
        Rows bound.
    torch : bool
        Whether the app passed torch tensors, and expects them back.
    """

    def __init__(self, list arrays not None, Py_ssize_t n_rows, bint torch=False):
        self.arrays = arrays
        self.n_rows = n_rows
        self.torch = torch

    def __repr__(self):
        shapes = ", ".join(f"{array.dtype} {array.shape}" for array in self.arrays)
        return f"Bound({shapes}; n_rows={self.n_rows}, torch={self.torch})"


cdef inline Bound make_bound(list arrays, Py_ssize_t n_rows):
    cdef Bound bound = Bound.__new__(Bound)
    bound.arrays = arrays
    bound.n_rows = n_rows
    bound.torch = False
    return bound


# ---- one value ---------------------------------------------------------------------------------


cdef inline int store_double(const Plan* plan, char* cell, double value) noexcept nogil:
    """Write a number that the field allows; refuse what the cell's type cannot hold."""
    cdef float single
    if plan.store == F32:
        single = <float>value
        if isinf(single) and not isinf(value):
            return OVERFLOW
        if plan.kind == INT and not plan.as_code and <double>single != value and not isnan(value):
            return INEXACT
        (<float*>cell)[0] = single
    elif plan.store == F64:
        (<double*>cell)[0] = value
    elif value != floor(value):
        return FRACTION
    elif plan.store == I64:
        if not -INT64_END <= value < INT64_END:
            return OVERFLOW
        (<int64_t*>cell)[0] = <int64_t>value
    elif plan.store == I32:
        if not -INT32_END <= value < INT32_END:
            return OVERFLOW
        (<int32_t*>cell)[0] = <int32_t>value
    else:
        if value != 0.0 and value != 1.0:
            return MISTYPED
        (<uint8_t*>cell)[0] = value != 0.0
    return OK


cdef inline int store_int(const Plan* plan, char* cell, int64_t value) noexcept nogil:
    """The same for a whole number, without the detour over a double where that would round."""
    cdef float single
    cdef double wide
    if plan.store == F32:
        single = <float>value
        # The rounded value may be 2**63 itself, which does not fit back.
        if plan.kind == INT and (single >= INT64_END or <int64_t>single != value):
            return INEXACT
        (<float*>cell)[0] = single
    elif plan.store == F64:
        wide = <double>value
        if plan.kind == INT and (wide >= INT64_END or <int64_t>wide != value):
            return INEXACT
        (<double*>cell)[0] = wide
    elif plan.store == I64:
        (<int64_t*>cell)[0] = value
    elif plan.store == I32:
        if value != <int32_t>value:
            return OVERFLOW
        (<int32_t*>cell)[0] = <int32_t>value
    else:
        if value != 0 and value != 1:
            return MISTYPED
        (<uint8_t*>cell)[0] = value != 0
    return OK


cdef inline int check_double(const Plan* plan, double value) noexcept nogil:
    """Whether the field takes this number, whatever the cell is."""
    if isfinite(value):
        if plan.kind == INT and value != floor(value):
            return FRACTION
        if plan.kind == BOOL and value != 0.0 and value != 1.0:
            return MISTYPED
        return OK
    if isnan(value):
        return MISSING if plan.refuse_missing else OK
    return INFINITE if plan.refuse_infinity else OK


cdef inline int put_double(const Plan* plan, char* cell, double value) noexcept nogil:
    cdef int status = check_double(plan, value)
    if status != OK:
        return status
    return store_double(plan, cell, value)


cdef inline int put_int(const Plan* plan, char* cell, int64_t value) noexcept nogil:
    if plan.kind == BOOL and value != 0 and value != 1:
        return MISTYPED
    return store_int(plan, cell, value)


cdef inline int put_missing(const Plan* plan, char* cell):
    if plan.refuse_missing:
        return MISSING
    if plan.store == STR:
        put_object(cell, <object>plan.blank)
        return OK
    return store_double(plan, cell, NAN)


cdef inline void put_object(char* cell, object value):
    cdef PyObject** slot = <PyObject**>cell
    cdef PyObject* before = slot[0]
    Py_INCREF(value)
    slot[0] = <PyObject*>value
    Py_XDECREF(before)


cdef inline bint has_surrogate(object text) noexcept:
    """Whether a str holds a lone surrogate, which UTF-8 cannot encode."""
    cdef int kind = PyUnicode_KIND(text)
    cdef Py_ssize_t i, n
    if kind == 1:
        return False
    n = PyUnicode_GET_LENGTH(text)
    cdef const cnp.npy_uint16* narrow = <const cnp.npy_uint16*>PyUnicode_DATA(text)
    cdef const cnp.npy_uint32* wide = <const cnp.npy_uint32*>PyUnicode_DATA(text)
    if kind == 2:
        for i in range(n):
            if (narrow[i] & 0xF800) == 0xD800:
                return True
        return False
    for i in range(n):
        if (wide[i] & 0xFFFFF800) == 0xD800:
            return True
    return False


cdef int put_category(const Plan* plan, char* cell, object value, object number) except -1:
    """Look a value up; ``number`` is what the cell takes where the model takes the value itself."""
    cdef PyObject* code = PyDict_GetItemWithError(plan.codes, <PyObject*>value)
    cdef int status = OK
    if code == NULL:
        if PyFloat_Check(number):
            status = check_double(plan, PyFloat_AS_DOUBLE(number))
        elif plan.kind == BOOL and number != 0 and number != 1:
            status = MISTYPED
        if status != OK:
            return status
        if plan.refuse_unknown:
            return UNKNOWN
        if plan.as_code:
            return store_double(plan, cell, -1.0)
    elif plan.as_code:
        return store_double(plan, cell, <double><object>code)
    if plan.kind == TEXT:
        if code == NULL and has_surrogate(value):
            return SURROGATE
        put_object(cell, value)
        return OK
    return put_plain_number(plan, cell, number)


cdef inline int put_text(const Plan* plan, char* cell, object text) except -1:
    if plan.codes != NULL:
        return put_category(plan, cell, text, None)
    if has_surrogate(text):
        return SURROGATE
    put_object(cell, text)
    return OK


cdef int put_plain_number(const Plan* plan, char* cell, object value) except -1:
    """Write a Python float or int (bool among them)."""
    cdef int overflow = 0
    cdef int64_t whole
    cdef double wide
    if PyFloat_Check(value):
        return put_double(plan, cell, PyFloat_AS_DOUBLE(value))
    whole = PyLong_AsLongLongAndOverflow(value, &overflow)
    if not overflow:
        return put_int(plan, cell, whole)
    if plan.kind == BOOL:
        return MISTYPED
    try:
        wide = float(value)
    except OverflowError:
        return OVERFLOW
    if plan.kind == INT and plan.store <= F64 and int(wide) != value:
        return INEXACT
    return put_double(plan, cell, wide)


cdef bint is_pandas_missing(object value):
    """pandas.NA and pandas.NaT, without importing pandas."""
    kind = type(value)
    return kind.__name__ in ("NAType", "NaTType") and kind.__module__.startswith("pandas.")


cdef object as_python_number(const Plan* plan, object value, int* status):
    """Bring a real number of any type to a Python float or int; None where it is missing.

    Takes numpy scalars, 0-d arrays and tensors, Decimal, Fraction and whatever else has
    ``__float__``. Strings, bytes, complex numbers and dates have no place in a number's field.
    """
    status[0] = OK
    if value is None:
        return None
    if PyFloat_Check(value):
        return None if isnan(PyFloat_AS_DOUBLE(value)) else value
    if PyLong_Check(value):
        return value
    if isinstance(value, cnp.integer) and not cnp.is_timedelta64_object(value):
        return PyNumber_Index(value)
    if isinstance(value, cnp.floating) and type(value) is not LONGDOUBLE:
        wide = PyNumber_Float(value)
        return None if isnan(<double>wide) else wide
    if type(value) is BOOL_SCALAR:
        return True if value else False
    if is_pandas_missing(value):
        return None
    if cnp.PyArray_CheckScalar(value):
        # complex64 and datetime64 have a __float__ that drops half of them.
        if value.dtype.kind in "cmMSU":
            status[0] = MISTYPED
            return None
        plain = value.item()
        if isinstance(plain, (float, int)):
            return None if plain != plain else plain
    elif not hasattr(type(value), "__float__") or getattr(value, "ndim", 0) != 0:
        status[0] = MISTYPED
        return None
    try:
        wide = float(value)
    except OverflowError:
        status[0] = OVERFLOW
        return None
    except (TypeError, ValueError):
        status[0] = MISTYPED
        return None
    if isnan(<double>wide):
        return None
    # The comparison is exact for Decimal, Fraction and longdouble. What has no __int__ is nothing more
    # than its __float__.
    if wide == value or not hasattr(type(value), "__int__"):
        return wide
    if isinf(<double>wide):
        status[0] = OVERFLOW
        return None
    whole = int(value)
    if whole == value:
        return whole
    if plan.kind == INT:
        status[0] = FRACTION
    elif plan.kind == BOOL:
        status[0] = MISTYPED
    return wide


cdef int put_value(const Plan* plan, char* cell, object value) except -1:
    """Write any Python object into a cell, or say why not."""
    cdef int status = OK
    if plan.kind == TEXT:
        if PyUnicode_CheckExact(value):
            return put_text(plan, cell, value)
        if PyUnicode_Check(value):
            return put_text(plan, cell, PyUnicode_FromObject(value))
        if value is None or is_pandas_missing(value):
            return put_missing(plan, cell)
        if PyFloat_Check(value) or (cnp.PyArray_CheckScalar(value) and value.dtype.kind == "f"):
            return put_missing(plan, cell) if isnan(<double>value) else MISTYPED
        return MISTYPED
    if plan.codes == NULL and (PyFloat_Check(value) or PyLong_Check(value)):
        return put_plain_number(plan, cell, value)
    number = as_python_number(plan, value, &status)
    if status != OK:
        return status
    if number is None:
        return put_missing(plan, cell)
    if plan.codes != NULL:
        return put_category(plan, cell, number, number)
    return put_plain_number(plan, cell, number)


# ---- rows --------------------------------------------------------------------------------------


@cython.final
cdef class RowBinder:
    """Binds rows of named fields into one matrix per input, in one pass over the row.

    Parameters
    ----------
    fields : sequence of infersdk.types.Field
        The columns of a row, in the order of a row given by position.
    inputs : sequence of infersdk.types.TensorSpec
        The matrices to fill: dtype float32, float64, int64, int32, bool or string; shape (N, k) or,
        for a single column, (N,). Every column must be filled by exactly one field.
    refuse : callable
        ``refuse(reason, value, field, row)`` raises the error to show. ``reason`` is "mistyped",
        "missing", "fraction", "inexact", "overflow", "infinite", "surrogate" or "unknown" for a value
        of ``fields[field]``; "names" for a dict row, ``value``, with missing or unknown keys;
        "length" for a row by position of the wrong length. ``row`` is None where there is only one.
    blank : object
        What a missing text becomes in a string matrix.

    Raises
    ------
    ValueError
        The fields do not fill the inputs exactly, or a field cannot be held by its input's dtype.
    """

    cdef Plan* plans
    cdef Py_ssize_t n_read
    cdef readonly Py_ssize_t n_fields
    cdef Py_ssize_t n_inputs
    cdef int* typenums
    cdef Store* stores
    cdef int* ndims
    cdef cnp.npy_intp* widths
    cdef Py_ssize_t* row_bytes
    cdef Py_ssize_t* plan_of     # by field; -1 where the model never reads it
    cdef tuple unread
    cdef tuple keep              # owns what the plans point at
    cdef object refuse
    cdef bint numeric            # no text field is read
    cdef bint identity           # one matrix, whose columns are the fields in order, as they are
    cdef bint all_float          # and every field is a float
    cdef bint takes_all          # and every one may be missing or infinite: nothing is to be checked

    def __cinit__(self, fields, inputs, refuse, *, blank=""):
        cdef Py_ssize_t n_fields = len(fields)
        cdef Py_ssize_t n_inputs = len(inputs)
        self.plans = <Plan*>PyMem_Calloc(n_fields + 1, sizeof(Plan))
        self.plan_of = <Py_ssize_t*>PyMem_Calloc(n_fields + 1, sizeof(Py_ssize_t))
        self.typenums = <int*>PyMem_Calloc(n_inputs + 1, sizeof(int))
        self.stores = <Store*>PyMem_Calloc(n_inputs + 1, sizeof(Store))
        self.ndims = <int*>PyMem_Calloc(n_inputs + 1, sizeof(int))
        self.widths = <cnp.npy_intp*>PyMem_Calloc(n_inputs + 1, sizeof(cnp.npy_intp))
        self.row_bytes = <Py_ssize_t*>PyMem_Calloc(n_inputs + 1, sizeof(Py_ssize_t))
        if (
            self.plans == NULL or self.plan_of == NULL or self.typenums == NULL
            or self.stores == NULL or self.ndims == NULL or self.widths == NULL
            or self.row_bytes == NULL
        ):
            raise MemoryError()

    def __dealloc__(self):
        PyMem_Free(self.plans)
        PyMem_Free(self.plan_of)
        PyMem_Free(self.typenums)
        PyMem_Free(self.stores)
        PyMem_Free(self.ndims)
        PyMem_Free(self.widths)
        PyMem_Free(self.row_bytes)

    def __init__(self, fields, inputs, refuse, *, blank=""):
        cdef Py_ssize_t i
        cdef Plan* plan
        fields = tuple(fields)
        inputs = tuple(inputs)
        targets = {}
        for i, spec in enumerate(inputs):
            if spec.dtype not in STORES or spec.shape is None or len(spec.shape) not in (1, 2):
                raise ValueError(f"A row cannot fill input `{spec.name}`, which is {spec}")
            self.stores[i], self.typenums[i], itemsize = STORES[spec.dtype]
            self.ndims[i] = len(spec.shape)
            self.widths[i] = sum(1 for field in fields if field.input == spec.name)
            self.row_bytes[i] = self.widths[i] * itemsize
            wanted = 1 if len(spec.shape) == 1 else spec.shape[1]
            if isinstance(wanted, int) and wanted != self.widths[i]:
                raise ValueError(
                    f"Input `{spec.name}` has {wanted} columns, but {self.widths[i]} fields fill it"
                )
            columns = sorted(field.column for field in fields if field.input == spec.name)
            if columns != list(range(self.widths[i])) or not columns:
                raise ValueError(
                    f"Expected one field for each column of input `{spec.name}`, got columns {columns}"
                )
            targets[spec.name] = (i, itemsize)
        if len({field.name for field in fields}) != len(fields):
            raise ValueError("Two fields have the same name")

        self.n_fields = len(fields)
        self.n_inputs = len(inputs)
        self.n_read = 0
        self.refuse = refuse
        keep = [blank]
        unread = []
        for i, field in enumerate(fields):
            name = intern(str(field.name)) if type(field.name) is str else field.name
            keep.append(name)
            if field.input is None:
                self.plan_of[i] = -1
                unread.append(name)
                continue
            if field.input not in targets:
                raise ValueError(f"Field `{field.name}` fills `{field.input}`, which is no input")
            self.plan_of[i] = self.n_read
            plan = &self.plans[self.n_read]
            self.n_read += 1
            plan.name = <PyObject*>name
            plan.blank = <PyObject*>blank
            plan.kind = KINDS[field.dtype]
            plan.target, itemsize = targets[field.input]
            plan.store = self.stores[plan.target]
            plan.offset = field.column * itemsize
            plan.field = i
            plan.refuse_missing = field.missing == "refuse"
            plan.refuse_infinity = plan.kind != FLOAT or field.infinity == "refuse"
            plan.refuse_unknown = field.unknown == "refuse" and field.categories is not None
            plan.as_code = field.encoding == "code"
            if plan.as_code and field.categories is None:
                raise ValueError(f"Field `{field.name}` is given as a code, but has no categories")
            if plan.as_code or plan.refuse_unknown:
                codes = {}
                for code, category in enumerate(field.categories):
                    codes.setdefault(category, code)
                keep.append(codes)
                plan.codes = <PyObject*>codes
            if (plan.store == STR) != (plan.kind == TEXT and not plan.as_code):
                raise ValueError(
                    f"Field `{field.name}` is a {field.dtype} given as its {field.encoding}, which "
                    f"input `{field.input}` ({inputs[plan.target].dtype}) cannot hold"
                )
            if not plan.refuse_missing and plan.store not in (F32, F64, STR):
                raise ValueError(
                    f"Field `{field.name}` may be missing, but input `{field.input}` "
                    f"({inputs[plan.target].dtype}) has no value for that"
                )
            plan.plain = plan.kind == FLOAT and plan.store == F32 and plan.codes == NULL
        self.keep = tuple(keep)
        self.unread = tuple(unread)

        self.numeric = True
        self.identity = (
            self.n_inputs == 1 and self.n_read == self.n_fields and self.ndims[0] == 2
        )
        self.all_float = True
        self.takes_all = True
        for i in range(self.n_read):
            plan = &self.plans[i]
            if plan.kind == TEXT:
                self.numeric = False
            if plan.codes != NULL or plan.store == STR or (i > 0 and plan.offset <= self.plans[i - 1].offset):
                self.identity = False
            if plan.kind != FLOAT:
                self.all_float = False
            if plan.refuse_missing or plan.refuse_infinity:
                self.takes_all = False

    def bind(self, rows):
        """Bind rows of a usual form; return None for any other.

        Parameters
        ----------
        rows : dict, list or numpy.ndarray
            A dict (one row); a list of dicts, of lists or of tuples; a flat list (one row by
            position); an array of shape (n_rows, n_fields) or (n_fields,) of float32, float64 or
            int64, aligned, of any strides. Exactly these types.

        Returns
        -------
        Bound or None
            None: not a usual form, or an array of the wrong shape. A float32 array that is already
            what the model takes is checked, not copied.

        Raises
        ------
        infersdk.errors.InputError
            Raised by ``refuse``.
        """
        if PyDict_CheckExact(rows):
            return self.bind_dict(rows)
        if PyList_CheckExact(rows):
            return self.bind_list(tuple(<list>rows))
        if cnp.PyArray_CheckExact(rows):
            return self.bind_array(rows)
        return None

    def bind_row(self, tuple values not None):
        """Bind one row by position, whatever the types of its values."""
        return self.bind_tuple((values,), True)

    def bind_values(self, values):
        """Bind the only field of the model from a list or tuple of its values, one row each."""
        cdef tuple items = tuple(values)
        cdef Py_ssize_t i, n = len(items)
        cdef list arrays
        cdef char* cell
        cdef int status
        if self.n_inputs != 1 or self.n_read != 1:
            raise ValueError("Expected a binder of one field")
        arrays = self.new_arrays(n)
        cell = cnp.PyArray_BYTES(arrays[0])
        for i in range(n):
            value = <object>PyTuple_GET_ITEM(items, i)
            status = put_value(&self.plans[0], cell, value)
            if status != OK:
                self.fail(status, value, &self.plans[0], i)
            cell += self.row_bytes[0]
        return make_bound(arrays, n)

    def allocate(self, Py_ssize_t n_rows):
        """Return new arrays for ``n_rows`` rows, whose columns must all be filled with ``fill``."""
        return self.new_arrays(n_rows)

    def fill(self, Py_ssize_t field, cnp.ndarray column not None, list arrays not None):
        """Write one field of all rows into arrays from :meth:`allocate`.

        Parameters
        ----------
        field : int
            Index of the field. One that the model never reads is passed over.
        column : numpy.ndarray of shape (n_rows,)
            float32, float64, int64, bool or object, aligned, of any stride.
        arrays : list of numpy.ndarray

        Raises
        ------
        infersdk.errors.InputError
            Raised by ``refuse``.
        TypeError
            The column is of another dtype or shape.
        """
        cdef Plan* plan
        cdef cnp.ndarray target
        if not 0 <= field < self.n_fields:
            raise IndexError(field)
        if self.plan_of[field] < 0:
            return
        plan = &self.plans[self.plan_of[field]]
        target = arrays[plan.target]
        if (
            cnp.PyArray_NDIM(column) != 1
            or not cnp.PyArray_ISBEHAVED_RO(column)
            or cnp.PyArray_DIM(column, 0) != cnp.PyArray_DIM(target, 0)
        ):
            raise TypeError(f"Expected a column of {cnp.PyArray_DIM(target, 0)} rows, got {(<object>column).shape}")
        self.fill_column(
            plan,
            column,
            cnp.PyArray_BYTES(column),
            cnp.PyArray_STRIDE(column, 0),
            cnp.PyArray_DIM(column, 0),
            cnp.PyArray_BYTES(target) + plan.offset,
            0,
        )

    # ---- inside

    cdef list new_arrays(self, Py_ssize_t n_rows):
        cdef Py_ssize_t i
        cdef cnp.npy_intp[2] shape
        cdef list arrays = []
        shape[0] = n_rows
        for i in range(self.n_inputs):
            shape[1] = self.widths[i]
            arrays.append(cnp.PyArray_EMPTY(self.ndims[i], shape, self.typenums[i], 0))
        return arrays

    cdef int fail(self, int status, object value, const Plan* plan, Py_ssize_t row) except -1:
        self.refuse(REASONS[status], value, plan.field, None if row < 0 else row)
        raise RuntimeError("refuse() returned")

    cdef int fail_row(self, str reason, object value, Py_ssize_t row) except -1:
        self.refuse(reason, value, None, None if row < 0 else row)
        raise RuntimeError("refuse() returned")

    cdef int put_dict(self, object row, char** cells, Py_ssize_t index) except -1:
        """Write a dict row; ``cells`` holds where each input's row starts."""
        cdef Py_ssize_t i
        cdef Py_ssize_t n_found
        cdef Plan* plan
        cdef PyObject* value
        cdef object owned
        cdef char* cell
        cdef float single
        cdef int status
        for i in range(self.n_read):
            plan = &self.plans[i]
            value = PyDict_GetItemWithError(<PyObject*>row, plan.name)
            if value == NULL:
                self.fail_row("names", row, index)
            cell = cells[plan.target] + plan.offset
            if plan.plain and PyFloat_CheckExact(<object>value):
                single = <float>PyFloat_AS_DOUBLE(<object>value)
                if isfinite(single):
                    (<float*>cell)[0] = single
                    continue
            # From here on the value's own code may run, and may take it out of the row.
            owned = <object>value
            status = put_value(plan, cell, owned)
            if status != OK:
                self.fail(status, owned, plan, index)
        n_found = self.n_read
        if PyDict_GET_SIZE(row) != n_found:
            for name in self.unread:
                n_found += name in row
            if PyDict_GET_SIZE(row) != n_found:
                self.fail_row("names", row, index)
        return 0

    cdef int put_sequence(self, tuple row, char** cells, Py_ssize_t index) except -1:
        """Write a row by position."""
        cdef Py_ssize_t i
        cdef Plan* plan
        cdef PyObject* value
        cdef char* cell
        cdef float single
        cdef int status
        if PyTuple_GET_SIZE(row) != self.n_fields:
            self.fail_row("length", row, index)
        for i in range(self.n_read):
            plan = &self.plans[i]
            value = PyTuple_GET_ITEM(row, plan.field)
            cell = cells[plan.target] + plan.offset
            if plan.plain and PyFloat_CheckExact(<object>value):
                single = <float>PyFloat_AS_DOUBLE(<object>value)
                if isfinite(single):
                    (<float*>cell)[0] = single
                    continue
            status = put_value(plan, cell, <object>value)
            if status != OK:
                self.fail(status, <object>value, plan, index)
        return 0

    cdef int put_rows(self, tuple rows, char** cells, Py_ssize_t first) except -1:
        """Write dict, list and tuple rows; return 1 where a row is of another type."""
        cdef Py_ssize_t i, k
        cdef object row
        for i in range(PyTuple_GET_SIZE(rows)):
            row = <object>PyTuple_GET_ITEM(rows, i)
            if PyDict_CheckExact(row):
                with cython.critical_section(row):
                    self.put_dict(row, cells, first + i if first >= 0 else -1)
            elif PyTuple_CheckExact(row):
                self.put_sequence(<tuple>row, cells, first + i if first >= 0 else -1)
            elif PyList_CheckExact(row):
                self.put_sequence(tuple(<list>row), cells, first + i if first >= 0 else -1)
            else:
                return 1
            for k in range(self.n_inputs):
                cells[k] += self.row_bytes[k]
        return 0

    cdef Bound bind_tuple(self, tuple rows, bint single):
        cdef char* small[STACK_INPUTS]
        cdef char** cells = small
        cdef Py_ssize_t i
        cdef int other
        cdef list arrays = self.new_arrays(PyTuple_GET_SIZE(rows))
        if self.n_inputs > STACK_INPUTS:
            cells = <char**>PyMem_Malloc(self.n_inputs * sizeof(char*))
            if cells == NULL:
                raise MemoryError()
        try:
            for i in range(self.n_inputs):
                cells[i] = cnp.PyArray_BYTES(arrays[i])
            other = self.put_rows(rows, cells, -1 if single else 0)
        finally:
            if cells != small:
                PyMem_Free(cells)
        return None if other else make_bound(arrays, PyTuple_GET_SIZE(rows))

    cdef Bound bind_dict(self, object row):
        return self.bind_tuple((row,), True)

    cdef Bound bind_list(self, tuple rows):
        cdef object first
        if PyTuple_GET_SIZE(rows) == 0:
            return make_bound(self.new_arrays(0), 0)
        first = <object>PyTuple_GET_ITEM(rows, 0)
        if PyDict_CheckExact(first) or PyList_CheckExact(first) or PyTuple_CheckExact(first):
            return self.bind_tuple(rows, False)
        if (
            PyFloat_Check(first) or PyLong_Check(first) or PyUnicode_Check(first) or first is None
        ):
            return self.bind_tuple((rows,), True)
        return None

    cdef Bound bind_array(self, cnp.ndarray array):
        cdef int ndim = cnp.PyArray_NDIM(array)
        cdef int typenum = cnp.PyArray_TYPE(array)
        cdef Py_ssize_t n_rows, row_stride, column_stride, i, start
        cdef cnp.npy_intp[2] shape
        cdef cnp.PyArray_Dims dims
        cdef cnp.ndarray target
        cdef list arrays
        cdef char* data
        cdef Plan* plan
        if not self.numeric or not cnp.PyArray_ISBEHAVED_RO(array):
            return None
        if typenum != cnp.NPY_FLOAT32 and typenum != cnp.NPY_FLOAT64 and typenum != cnp.NPY_INT64:
            return None
        if ndim == 2 and cnp.PyArray_DIM(array, 1) == self.n_fields:
            n_rows = cnp.PyArray_DIM(array, 0)
            row_stride = cnp.PyArray_STRIDE(array, 0)
            column_stride = cnp.PyArray_STRIDE(array, 1)
        elif ndim == 1 and cnp.PyArray_DIM(array, 0) == self.n_fields:
            n_rows = 1
            row_stride = 0
            column_stride = cnp.PyArray_STRIDE(array, 0)
        else:
            return None
        data = cnp.PyArray_BYTES(array)
        if self.identity and cnp.PyArray_IS_C_CONTIGUOUS(array):
            if typenum == self.typenums[0]:
                self.check_matrix(data, n_rows, ndim == 1)
                if ndim == 1:
                    shape[0] = 1
                    shape[1] = self.n_fields
                    dims.ptr = shape
                    dims.len = 2
                    array = cnp.PyArray_Newshape(array, &dims, cnp.NPY_CORDER)
                return make_bound([array], n_rows)
            if typenum == cnp.NPY_FLOAT64 and self.typenums[0] == cnp.NPY_FLOAT32 and self.all_float:
                arrays = self.new_arrays(n_rows)
                if narrow(
                    <const double*>data,
                    <float*>cnp.PyArray_BYTES(arrays[0]),
                    n_rows * self.n_fields,
                ):
                    return make_bound(arrays, n_rows)
                # Missing or bad values: the columns are gone through one by one.
        arrays = self.new_arrays(n_rows)
        # Column by column, but in blocks of rows that stay in the cache between two columns.
        for start in range(0, n_rows, BLOCK_ROWS):
            for i in range(self.n_read):
                plan = &self.plans[i]
                target = arrays[plan.target]
                self.fill_column(
                    plan,
                    array,
                    data + start * row_stride + plan.field * column_stride,
                    row_stride,
                    min(BLOCK_ROWS, n_rows - start),
                    cnp.PyArray_BYTES(target) + start * self.row_bytes[plan.target] + plan.offset,
                    -1 if ndim == 1 else start,
                )
        return make_bound(arrays, n_rows)

    cdef int check_matrix(self, const char* data, Py_ssize_t n_rows, bint single) except -1:
        """Check a matrix that is fed as it is."""
        cdef Py_ssize_t i, k
        cdef Py_ssize_t n = n_rows * self.n_fields
        cdef int status = OK
        cdef double value = 0.0
        cdef Plan* plan = NULL
        if self.all_float:
            if self.stores[0] == I64 or self.takes_all:
                return 0
            if self.stores[0] == F32 and all_finite(<const float*>data, n):
                return 0
            if self.stores[0] == F64 and all_finite(<const double*>data, n):
                return 0
        for i in range(n_rows):
            for k in range(self.n_fields):
                plan = &self.plans[k]
                if self.stores[0] == F32:
                    value = (<const float*>data)[i * self.n_fields + k]
                    status = check_double(plan, value)
                elif self.stores[0] == F64:
                    value = (<const double*>data)[i * self.n_fields + k]
                    status = check_double(plan, value)
                elif plan.kind == BOOL:
                    value = (<const int64_t*>data)[i * self.n_fields + k]
                    status = check_double(plan, value)
                if status != OK:
                    self.fail(status, value, plan, -1 if single else i)
        return 0

    cdef int fill_column(
        self,
        const Plan* plan,
        cnp.ndarray column,
        const char* source,
        Py_ssize_t stride,
        Py_ssize_t n,
        char* cell,
        Py_ssize_t first,
    ) except -1:
        """Write ``n`` values that lie ``stride`` bytes apart into a column of a matrix.

        ``column`` is only the owner of the memory, and tells its type. ``first`` is the number of the
        first row in messages, or -1.
        """
        cdef int typenum = cnp.PyArray_TYPE(column)
        cdef Py_ssize_t step = self.row_bytes[plan.target]
        cdef Py_ssize_t i = 0
        cdef int status = OK
        cdef PyObject* pointer
        cdef object value
        if typenum == cnp.NPY_OBJECT or plan.codes != NULL or plan.kind == TEXT:
            for i in range(n):
                if typenum == cnp.NPY_OBJECT:
                    pointer = (<PyObject**>source)[0]
                    value = None if pointer == NULL else <object>pointer
                else:
                    value = get_item(column, source)
                status = put_value(plan, cell, value)
                if status != OK:
                    self.fail(status, value, plan, -1 if first < 0 else first + i)
                source += stride
                cell += step
            return 0
        if typenum == cnp.NPY_FLOAT64:
            for i in range(n):
                status = put_double(plan, cell, (<const double*>source)[0])
                if status != OK:
                    break
                source += stride
                cell += step
        elif typenum == cnp.NPY_FLOAT32:
            for i in range(n):
                status = put_double(plan, cell, (<const float*>source)[0])
                if status != OK:
                    break
                source += stride
                cell += step
        elif typenum == cnp.NPY_INT64:
            for i in range(n):
                status = put_int(plan, cell, (<const int64_t*>source)[0])
                if status != OK:
                    break
                source += stride
                cell += step
        elif typenum == cnp.NPY_BOOL:
            for i in range(n):
                status = put_int(plan, cell, (<const uint8_t*>source)[0] != 0)
                if status != OK:
                    break
                source += stride
                cell += step
        else:
            raise TypeError(f"Expected a column of float, int64, bool or object, got {column.dtype}")
        if status != OK:
            value = get_item(column, source)
            self.fail(status, value, plan, -1 if first < 0 else first + i)
        return 0


ctypedef fused real:
    float
    double


cdef bint all_finite(const real* values, Py_ssize_t n) noexcept:
    if n < RELEASE_GIL_ABOVE:
        return all_finite_nogil(values, n)
    with nogil:
        return all_finite_nogil(values, n)


cdef bint all_finite_nogil(const real* values, Py_ssize_t n) noexcept nogil:
    # No early exit, so that the compiler makes vector code of it; x - x is 0 for finite x only.
    cdef int bad = 0
    cdef Py_ssize_t i
    for i in range(n):
        bad |= (values[i] - values[i]) != 0
    return bad == 0


cdef bint narrow(const double* source, float* target, Py_ssize_t n) noexcept:
    """Round to float32; False where a result is not finite."""
    if n < RELEASE_GIL_ABOVE:
        return narrow_nogil(source, target, n)
    with nogil:
        return narrow_nogil(source, target, n)


cdef bint narrow_nogil(const double* source, float* target, Py_ssize_t n) noexcept nogil:
    cdef int bad = 0
    cdef Py_ssize_t i
    cdef float value
    for i in range(n):
        value = <float>source[i]
        target[i] = value
        bad |= (value - value) != 0
    return bad == 0


# ---- tensors -----------------------------------------------------------------------------------


@cython.final
cdef class TensorBinder:
    """Recognizes tensors that a model takes as they are.

    Parameters
    ----------
    names : sequence of str
    dtypes : sequence of numpy.dtype
        Numbers only: strings need their characters checked.
    shapes : sequence of (tuple or None)
        Sizes, names of dynamic axes, or None, as in infersdk.types.TensorSpec.
    """

    cdef tuple names
    cdef tuple dtypes
    cdef Py_ssize_t n_inputs
    cdef int* ndims              # -1: any rank
    cdef Py_ssize_t* starts      # of each input's axes in `axes`
    cdef Py_ssize_t* axes        # a size; -1: any; -2 - k: equal to the other axes of name k
    cdef Py_ssize_t n_symbols
    cdef Py_ssize_t batched      # the first input with a dynamic first axis, or -1

    def __cinit__(self, names, dtypes, shapes):
        cdef Py_ssize_t n_axes = sum(len(shape) for shape in shapes if shape is not None)
        self.ndims = <int*>PyMem_Calloc(len(names) + 1, sizeof(int))
        self.starts = <Py_ssize_t*>PyMem_Calloc(len(names) + 1, sizeof(Py_ssize_t))
        self.axes = <Py_ssize_t*>PyMem_Calloc(n_axes + 1, sizeof(Py_ssize_t))
        if self.ndims == NULL or self.starts == NULL or self.axes == NULL:
            raise MemoryError()

    def __dealloc__(self):
        PyMem_Free(self.ndims)
        PyMem_Free(self.starts)
        PyMem_Free(self.axes)

    def __init__(self, names, dtypes, shapes):
        cdef Py_ssize_t i, n = 0
        self.names = tuple(intern(str(name)) for name in names)
        self.dtypes = tuple(dtypes)
        self.n_inputs = len(self.names)
        self.batched = -1
        symbols = {}
        for i, shape in enumerate(shapes):
            self.starts[i] = n
            self.ndims[i] = -1 if shape is None else len(shape)
            for axis in shape or ():
                if isinstance(axis, int):
                    self.axes[n] = axis
                elif axis is None:
                    self.axes[n] = -1
                else:
                    self.axes[n] = -2 - symbols.setdefault(axis, len(symbols))
                n += 1
            if self.batched < 0 and (not shape and shape is None or shape and not isinstance(shape[0], int)):
                self.batched = i
        self.n_symbols = len(symbols)

    def bind(self, values):
        """Return a Bound of the caller's own arrays, or None where they need a closer look.

        Parameters
        ----------
        values : numpy.ndarray, tuple, or dict
            The only input; one array per input, in order; arrays by input name.
        """
        cdef list arrays
        cdef Py_ssize_t i
        cdef PyObject* value
        if cnp.PyArray_CheckExact(values):
            if self.n_inputs != 1:
                return None
            arrays = [values]
        elif PyTuple_CheckExact(values):
            if PyTuple_GET_SIZE(values) != self.n_inputs:
                return None
            arrays = list(<tuple>values)
        elif PyDict_CheckExact(values):
            if PyDict_GET_SIZE(values) != self.n_inputs:
                return None
            arrays = []
            with cython.critical_section(values):
                for i in range(self.n_inputs):
                    value = PyDict_GetItemWithError(
                        <PyObject*>values, PyTuple_GET_ITEM(self.names, i)
                    )
                    if value == NULL:
                        return None
                    arrays.append(<object>value)
        else:
            return None
        return self.accept(arrays)

    def accept(self, list arrays not None):
        """The same for a list of one array per input, in order."""
        cdef Py_ssize_t[8] sizes
        cdef Py_ssize_t i, k, axis, size
        cdef cnp.ndarray array
        cdef object value
        if len(arrays) != self.n_inputs or self.n_symbols > 8:
            return None
        for i in range(self.n_symbols):
            sizes[i] = -1
        for i in range(self.n_inputs):
            value = arrays[i]
            if not cnp.PyArray_CheckExact(value):
                return None
            array = value
            if not (cnp.PyArray_ISBEHAVED_RO(array) and cnp.PyArray_IS_C_CONTIGUOUS(array)):
                return None
            if <PyObject*>cnp.PyArray_DESCR(array) != PyTuple_GET_ITEM(self.dtypes, i):
                if not cnp.PyArray_EquivTypes(
                    <cnp.dtype><PyObject*>cnp.PyArray_DESCR(array), self.dtypes[i]
                ):
                    return None
            if cnp.PyArray_TYPE(array) == cnp.NPY_OBJECT:
                return None
            if self.ndims[i] < 0:
                continue
            if cnp.PyArray_NDIM(array) != self.ndims[i]:
                return None
            for k in range(self.ndims[i]):
                axis = self.axes[self.starts[i] + k]
                size = cnp.PyArray_DIM(array, k)
                if axis >= 0:
                    if size != axis:
                        return None
                elif axis <= -2:
                    if sizes[-2 - axis] < 0:
                        sizes[-2 - axis] = size
                    elif sizes[-2 - axis] != size:
                        return None
        return make_bound(arrays, self.count(arrays))

    def count_rows(self, list arrays not None):
        """Rows of a batch: the first axis that may vary, or 1."""
        return self.count(arrays)

    cdef Py_ssize_t count(self, list arrays) except -1:
        cdef cnp.ndarray array
        if self.batched < 0:
            return 1
        array = arrays[self.batched]
        return cnp.PyArray_DIM(array, 0) if cnp.PyArray_NDIM(array) > 0 else 1


def narrowed(cnp.ndarray array not None):
    """Round a C-contiguous float64 array to float32.

    Returns
    -------
    numpy.ndarray or None
        None: another dtype or layout, or a result is not finite and needs a closer look.
    """
    cdef cnp.ndarray answer
    if cnp.PyArray_TYPE(array) != cnp.NPY_FLOAT64:
        return None
    if not (cnp.PyArray_IS_C_CONTIGUOUS(array) and cnp.PyArray_ISBEHAVED_RO(array)):
        return None
    answer = cnp.PyArray_EMPTY(
        cnp.PyArray_NDIM(array), cnp.PyArray_DIMS(array), cnp.NPY_FLOAT32, 0
    )
    if narrow(
        <const double*>cnp.PyArray_DATA(array),
        <float*>cnp.PyArray_DATA(answer),
        cnp.PyArray_SIZE(array),
    ):
        return answer
    return None


# ---- answers -----------------------------------------------------------------------------------


def take_labels(output, cnp.ndarray classes not None, Py_ssize_t n_rows):
    """Turn class indices into the source model's labels.

    Parameters
    ----------
    output : numpy.ndarray of int64
        One class index per row; shape (n_rows,) or (n_rows, 1).
    classes : numpy.ndarray of shape (n_classes,)
        C-contiguous, of any dtype.
    n_rows : int

    Returns
    -------
    numpy.ndarray of shape (n_rows,)
        With the dtype of ``classes``.

    Raises
    ------
    IndexError
        An index is negative or past the last class.
    ValueError
        The output does not hold one index per row.
    """
    cdef cnp.ndarray index
    cdef cnp.ndarray answer
    cdef cnp.npy_intp[1] shape
    cdef cnp.dtype dtype = <cnp.dtype><PyObject*>cnp.PyArray_DESCR(classes)
    cdef Py_ssize_t i, itemsize = cnp.PyArray_ITEMSIZE(classes)
    cdef int64_t k, n_classes = cnp.PyArray_DIM(classes, 0)
    cdef const int64_t* chosen
    cdef const char* source = cnp.PyArray_BYTES(classes)
    cdef char* target
    cdef bint objects = cnp.PyArray_TYPE(classes) == cnp.NPY_OBJECT
    index = cnp.PyArray_FROMANY(
        output, cnp.NPY_INT64, 0, 0, cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED
    )
    if cnp.PyArray_SIZE(index) != n_rows:
        raise ValueError(f"Expected one class index for each of {n_rows} rows, got {(<object>index).shape}")
    shape[0] = n_rows
    Py_INCREF(dtype)  # PyArray_Empty steals it
    answer = PyArray_Empty(1, shape, dtype, 0)
    chosen = <const int64_t*>cnp.PyArray_DATA(index)
    target = cnp.PyArray_BYTES(answer)
    for i in range(n_rows):
        k = chosen[i]
        if not 0 <= k < n_classes:
            raise IndexError(f"Expected a class index below {n_classes}, got {k} in row {i}")
        if objects:
            put_object(target, <object>(<PyObject**>source)[k])
        else:
            memcpy(target, source + k * itemsize, itemsize)
        target += itemsize
    return answer


def widen(cnp.ndarray output not None, tuple shape not None):
    """Cast a C-contiguous float32 array to float64 and reshape it in one go; None if it is not one.

    Raises
    ------
    ValueError
        The array cannot have that shape.
    """
    cdef cnp.npy_intp[32] dims
    cdef Py_ssize_t i, n = 1, ndim = PyTuple_GET_SIZE(shape)
    cdef cnp.ndarray answer
    cdef const float* source
    cdef double* target
    if cnp.PyArray_TYPE(output) != cnp.NPY_FLOAT32 or ndim > 32:
        return None
    if not (cnp.PyArray_IS_C_CONTIGUOUS(output) and cnp.PyArray_ISBEHAVED_RO(output)):
        return None
    for i in range(ndim):
        dims[i] = shape[i]
        n *= dims[i]
    if cnp.PyArray_SIZE(output) != n:
        raise ValueError(f"cannot reshape array of shape {(<object>output).shape} into shape {shape}")
    answer = cnp.PyArray_EMPTY(<int>ndim, dims, cnp.NPY_FLOAT64, 0)
    source = <const float*>cnp.PyArray_DATA(output)
    target = <double*>cnp.PyArray_DATA(answer)
    for i in range(n):
        target[i] = source[i]
    return answer
