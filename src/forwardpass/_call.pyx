# cython: language_level=3, boundscheck=False, wraparound=False
"""The hot call path: from a NumPy array to a native run and a new array with as little as possible in between."""

cimport numpy as cnp
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from cpython.pycapsule cimport PyCapsule_New
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uintptr_t
from libc.string cimport memset, strcpy

import math

import numpy as np

from forwardpass cimport fp_api, fp_model, import_forwardpass

cnp.import_array()

cdef const fp_api* api = import_forwardpass()

cdef extern from "results.hpp" namespace "forwardpass":
    cdef cppclass ResultPool:
        ResultPool() except +
        void* get(size_t) noexcept
        void put(void*) noexcept
        void* resize(void*, size_t) noexcept
        void expect(size_t) noexcept
        void join() except +
        void leave() noexcept
        size_t kept_bytes() noexcept
    const size_t LEAST "forwardpass::ResultPool::kLeast"

cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyDataMemAllocator:
        void* ctx
        void* (*malloc)(void*, size_t) noexcept
        void* (*calloc)(void*, size_t, size_t) noexcept
        void* (*realloc)(void*, void*, size_t) noexcept
        void (*free)(void*, void*, size_t) noexcept

    ctypedef struct PyDataMem_Handler:
        char name[127]
        uint8_t version
        PyDataMemAllocator allocator

    object PyDataMem_SetHandler(object handler)

cdef enum:
    MAX_TENSORS = 128
    MAX_RANK = 8

# Where NumPy takes the memory of large results from, and gives it back to. Not destroyed: arrays may live longer than
# this module.
cdef ResultPool* pool = new ResultPool()
cdef PyDataMem_Handler handler


cdef void* allocate(void* ctx, size_t size) noexcept:
    return pool.get(size)


cdef void* allocate_zeros(void* ctx, size_t count, size_t size) noexcept:
    if size and count > <size_t> -1 // size:
        return NULL
    cdef void* made = pool.get(count * size)
    if made is not NULL:
        memset(made, 0, count * size)
    return made


cdef void* reallocate(void* ctx, void* data, size_t size) noexcept:
    return pool.resize(data, size)


cdef void release(void* ctx, void* data, size_t size) noexcept:
    pool.put(data)


strcpy(handler.name, b"forwardpass_results")
handler.version = 1
handler.allocator = PyDataMemAllocator(NULL, allocate, allocate_zeros, reallocate, release)
cdef object results = PyCapsule_New(&handler, b"mem_handler", NULL)


def kept_bytes():
    """The bytes of results that callers have let go of, kept for the next ones."""
    return pool.kept_bytes()


cdef struct Slot:
    int type
    int rank
    cnp.npy_intp shape[MAX_RANK]
    Py_ssize_t nbytes


cdef class Bound:
    """A native program with the shapes that it was planned for, ready to be called.

    Those with more than 128 inputs or outputs or of a rank over 8 only have `run`, and are not called directly.
    """

    cdef const fp_model* model
    cdef readonly object owner
    cdef int n_inputs
    cdef int n_outputs
    cdef bint release_gil
    cdef bint direct
    cdef object fault
    cdef list types
    cdef size_t large
    cdef Slot* inputs
    cdef Slot* outputs

    def __init__(self, owner, inputs, outputs, bint release_gil, fault):
        """Inputs and outputs are pairs of a dtype and a shape; `fault(step)` makes the error of a step whose data are
        wrong."""
        self.owner = owner
        self.fault = fault
        self.model = <const fp_model*> <uintptr_t> owner.handle
        self.n_inputs = len(inputs)
        self.n_outputs = len(outputs)
        self.release_gil = release_gil
        ranks = [len(shape) for _, shape in (*inputs, *outputs)]
        self.direct = max(self.n_inputs, self.n_outputs) <= MAX_TENSORS and max(ranks) <= MAX_RANK
        self.types = [*outputs]
        sizes = [dtype.itemsize * math.prod(shape) for dtype, shape in outputs]
        large = sum([size for size in sizes if size >= LEAST])
        if large:
            pool.join()
            self.large = large
        if self.direct:
            self.inputs = <Slot*> PyMem_Calloc(self.n_inputs + self.n_outputs, sizeof(Slot))
            if self.inputs is NULL:
                raise MemoryError()
            self.outputs = self.inputs + self.n_inputs
            for i, (dtype, shape) in enumerate(inputs):
                fill(&self.inputs[i], dtype, shape)
            for i, (dtype, shape) in enumerate(outputs):
                fill(&self.outputs[i], dtype, shape)

    def __dealloc__(self):
        PyMem_Free(self.inputs)
        if self.large:
            pool.leave()

    def new_outputs(self):
        """A list of uninitialised arrays for the outputs. Large ones get the memory that callers have let go of."""
        if not self.large:
            return [np.empty(shape, dtype) for dtype, shape in self.types]
        pool.expect(self.large)
        before = PyDataMem_SetHandler(results)
        try:
            return [np.empty(shape, dtype) for dtype, shape in self.types]
        finally:
            PyDataMem_SetHandler(before)

    cdef int invoke(self, const void** inputs, void** outputs) except -1:
        cdef int failed
        if self.release_gil:
            with nogil:
                failed = api.run(self.model, inputs, outputs)
        else:
            failed = api.run(self.model, inputs, outputs)
        if failed < 0:
            raise MemoryError("no memory for the intermediate values of one more simultaneous call")
        if failed:
            raise self.fault(failed - 1)
        return 0

    def run(self, list inputs, list outputs):
        """Run on arrays that the caller has checked."""
        cdef Py_ssize_t n = self.n_inputs + self.n_outputs
        cdef void** data = <void**> PyMem_Malloc(max(n, 1) * sizeof(void*))
        cdef Py_ssize_t i
        if data is NULL:
            raise MemoryError()
        try:
            for i in range(n):
                array = inputs[i] if i < self.n_inputs else outputs[i - self.n_inputs]
                data[i] = cnp.PyArray_DATA(<cnp.ndarray?> array)
            self.invoke(<const void**> data, data + self.n_inputs)
        finally:
            PyMem_Free(data)


cdef void fill(Slot* slot, dtype, shape):
    slot.type = dtype.num
    slot.rank = len(shape)
    slot.nbytes = dtype.itemsize
    for i, d in enumerate(shape):
        slot.shape[i] = d
        slot.nbytes *= d


cdef inline bint fits(const Slot* slot, object x) noexcept:
    """Whether x can be handed to the program as it is."""
    cdef cnp.ndarray a
    cdef int i
    if not cnp.PyArray_CheckExact(x):
        return False
    a = <cnp.ndarray> x
    if cnp.PyArray_TYPE(a) != slot.type or not cnp.PyArray_ISCARRAY_RO(a) or cnp.PyArray_NDIM(a) != slot.rank:
        return False
    for i in range(slot.rank):
        if cnp.PyArray_DIMS(a)[i] != slot.shape[i]:
            return False
    return True


cdef inline object empty(const Slot* slot, void** data):
    """An uninitialised array, and its address in `data`."""
    cdef object made = cnp.PyArray_EMPTY(slot.rank, <cnp.npy_intp*> slot.shape, slot.type, 0)
    data[0] = cnp.PyArray_DATA(<cnp.ndarray> made)
    return made


cdef inline bint overlap(const char* a, Py_ssize_t a_bytes, const char* b, Py_ssize_t b_bytes) noexcept:
    return a < b + b_bytes and b < a + a_bytes


cdef class Caller:
    """The part of `Model` that is called: the plan used last, tried first."""

    cdef Bound last
    cdef tuple input_names
    cdef tuple output_names

    def _set_names(self, tuple inputs, tuple outputs):
        self.input_names = inputs
        self.output_names = outputs

    def _set_last(self, Bound bound):
        """Try this program first in the next call; None for none."""
        self.last = bound if bound is not None and bound.direct else None

    def __call__(self, *args, **kwargs):
        cdef Bound bound = self.last
        cdef const void* ins[MAX_TENSORS]
        cdef void* outs[MAX_TENSORS]
        cdef Py_ssize_t i
        cdef object x, y
        cdef list made
        if bound is None or kwargs or PyTuple_GET_SIZE(args) != bound.n_inputs:
            return self._call(args, kwargs)
        for i in range(bound.n_inputs):
            x = <object> PyTuple_GET_ITEM(args, i)
            if not fits(&bound.inputs[i], x):
                return self._call(args, kwargs)
            ins[i] = cnp.PyArray_DATA(<cnp.ndarray> x)
        if bound.large:
            made = bound.new_outputs()
            for i in range(bound.n_outputs):
                outs[i] = cnp.PyArray_DATA(<cnp.ndarray> made[i])
            bound.invoke(ins, outs)
            return made[0] if bound.n_outputs == 1 else self.as_result(made)
        if bound.n_outputs == 1:
            y = empty(&bound.outputs[0], outs)
            bound.invoke(ins, outs)
            return y
        made = [empty(&bound.outputs[i], &outs[i]) for i in range(bound.n_outputs)]
        bound.invoke(ins, outs)
        return self.as_result(made)

    def run_into(self, inputs, outputs):
        """Run on the caller's buffers: nothing is allocated.

        Parameters
        ----------
        inputs
            Input name -> array, or the array itself where the model has one input.
        outputs
            Output name -> writeable C-contiguous array of the output's dtype and shape, or the array itself where the
            model has one output. Must not overlap an input.

        Raises
        ------
        InputError
            A name, shape, dtype or memory layout that does not fit; outputs are untouched then.
        """
        cdef Bound bound = self.last
        cdef const void* ins[MAX_TENSORS]
        cdef void* outs[MAX_TENSORS]
        cdef Py_ssize_t in_bytes[MAX_TENSORS]
        cdef Py_ssize_t size
        cdef int i, j
        cdef object a
        if bound is None or extra(inputs, bound.n_inputs) or extra(outputs, bound.n_outputs):
            return self._run_into(inputs, outputs)
        for i in range(bound.n_inputs):
            a = pick(inputs, self.input_names, i)
            if not fits(&bound.inputs[i], a):
                return self._run_into(inputs, outputs)
            ins[i] = cnp.PyArray_DATA(<cnp.ndarray> a)
            in_bytes[i] = cnp.PyArray_NBYTES(<cnp.ndarray> a)
        for j in range(bound.n_outputs):
            a = pick(outputs, self.output_names, j)
            if not fits(&bound.outputs[j], a) or not cnp.PyArray_ISWRITEABLE(<cnp.ndarray> a):
                return self._run_into(inputs, outputs)
            outs[j] = cnp.PyArray_DATA(<cnp.ndarray> a)
            size = cnp.PyArray_NBYTES(<cnp.ndarray> a)
            for i in range(bound.n_inputs):
                if overlap(<char*> ins[i], in_bytes[i], <char*> outs[j], size):
                    return self._run_into(inputs, outputs)
            for i in range(j):
                if overlap(<char*> outs[i], bound.outputs[i].nbytes, <char*> outs[j], size):
                    return self._run_into(inputs, outputs)
        bound.invoke(ins, outs)
        return None


cdef inline bint extra(object given, int expected) noexcept:
    """Whether a dictionary has more or fewer tensors than expected."""
    return isinstance(given, dict) and len(<dict> given) != expected


cdef inline object pick(object given, tuple names, int i):
    """The i-th tensor of a dictionary by its name, or the given array itself; None where there is none."""
    if isinstance(given, dict):
        return (<dict> given).get(<object> PyTuple_GET_ITEM(names, i))
    return given if len(names) == 1 else None
