# The cimport API: a model as C functions, for code that runs without Python objects. Documented in
# include/forwardpass.h, whose folder `forwardpass.get_include()` names.
#
#     from forwardpass cimport fp_api, fp_model, import_forwardpass
#     cdef const fp_api* fp = import_forwardpass()

from cpython.pycapsule cimport PyCapsule_Import
from libc.stdint cimport int32_t, int64_t, uint32_t


cdef extern from "forwardpass.h" nogil:
    int FP_API_VERSION
    int FP_MAX_RANK

    ctypedef struct fp_model:
        pass

    ctypedef enum fp_type:
        fp_float32, fp_float64, fp_float16, fp_int64, fp_int32, fp_int16, fp_int8
        fp_uint64, fp_uint32, fp_uint16, fp_uint8, fp_bool

    ctypedef struct fp_tensor_info:
        const char* name
        int32_t rank
        int64_t shape[8]
        int64_t bytes
        fp_type type

    ctypedef struct fp_api:
        uint32_t version
        fp_model* (*load)(const char* path, const char* precision, int32_t threads, int64_t batch, char* error,
                          size_t error_size) noexcept nogil
        void (*release)(fp_model* model) noexcept nogil
        int32_t (*input_count)(const fp_model* model) noexcept nogil
        int32_t (*output_count)(const fp_model* model) noexcept nogil
        int32_t (*input_info)(const fp_model* model, int32_t index, fp_tensor_info* info) noexcept nogil
        int32_t (*output_info)(const fp_model* model, int32_t index, fp_tensor_info* info) noexcept nogil
        int32_t (*run)(const fp_model* model, const void* const* inputs, void* const* outputs) noexcept nogil


cdef inline const fp_api* import_forwardpass() except NULL:
    cdef const fp_api* api = <const fp_api*> PyCapsule_Import("forwardpass._native._C_API", 0)
    if api.version < <uint32_t> FP_API_VERSION:
        raise ImportError("the installed forwardpass is older than the one this module was compiled against")
    return api
